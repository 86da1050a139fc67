"""Samples → shards: the transform graph encodes, NumPy lays out the Examples, TensorFlow writes the records."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tensorflow as tf

from onehull.errors import ArtifactError
from onehull.features.graph import transform_model
from onehull.features.tensors import raw_tensors
from onehull.features.transform import Transform
from onehull.records.example import Column, ExampleEncoder, id_bytes
from onehull.records.manifest import LABEL_PREFIX, MANIFEST, LabelStatistics, RecordsManifest, Shard, file_sha256
from onehull.spec.samples import SPLIT, SPLITS, SplitName, label_column

_BATCH_ROWS = 8192

Progress = Callable[[int], None]
"""Called with the number of rows that have been written since the last call."""


def write_records(
    samples: Path,
    transform: Transform,
    tasks: Sequence[str],
    out_dir: Path,
    *,
    rows_per_shard: int = 65_536,
    progress: Progress | None = None,
) -> RecordsManifest:
    """Writes the shards of every part, in the order of the samples table, and the manifest last.

    The directory is built beside its place and moved there when it is whole.

    Args:
        samples: the samples table (see `onehull.spec.samples`).
        transform: raw values → encoded inputs.
        tasks: names of the tasks whose labels are written.
        out_dir: directory of the shards; replaced as a whole.
        rows_per_shard: rows of a shard, the last one of a part may have fewer.
        progress: told about rows as they are written.

    Raises:
        ArtifactError: the disk is full or not writable; what stood there before is intact.
    """
    building = out_dir.parent / f".{out_dir.name}.building"
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        writer = _ShardWriter(transform, tasks, building, progress or _silent)
        table = pl.scan_parquet(samples)
        splits = {split: writer.write(split, table.filter(pl.col(SPLIT) == split), rows_per_shard) for split in SPLITS}
        manifest = RecordsManifest(
            inputs=transform.inputs,
            tasks=tuple(tasks),
            splits=splits,
            labels={task: _label_statistics(table, task) for task in tasks},
        )
        (building / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if out_dir.exists():
            shutil.rmtree(out_dir)
        building.rename(out_dir)
    except (OSError, tf.errors.OpError) as error:
        raise ArtifactError(f"{out_dir}: the shards cannot be written: {error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return manifest


class _ShardWriter:
    """Writes the shards of one part after the other with one traced transform."""

    def __init__(self, transform: Transform, tasks: Sequence[str], directory: Path, progress: Progress) -> None:
        self._transform = transform
        self._tasks = tasks
        self._directory = directory
        self._progress = progress
        self._graph = tf.function(transform_model(transform), reduce_retracing=True)
        columns = [Column(i.name, i.length, 0 if i.kind == "dense" else id_bytes(i.rows - 1)) for i in transform.inputs]
        columns += [Column(f"{LABEL_PREFIX}{task}", 1) for task in tasks]
        self._encoder = ExampleEncoder(sorted(columns, key=lambda column: column.name))

    def write(self, split: SplitName, rows: pl.LazyFrame, rows_per_shard: int) -> tuple[Shard, ...]:
        frame = rows.collect()
        starts = range(0, len(frame), rows_per_shard)
        return tuple(
            self._write_shard(f"{split}-{index:05d}-of-{len(starts):05d}.tfrecord", frame.slice(start, rows_per_shard))
            for index, start in enumerate(starts)
        )

    def _write_shard(self, name: str, frame: pl.DataFrame) -> Shard:
        path = self._directory / name
        with tf.io.TFRecordWriter(str(path)) as writer:
            for batch in _batches(frame):
                for example in self._encoder.encode(self._encode(batch)):
                    writer.write(example.tobytes())
                self._progress(len(batch))
        return Shard(file=name, rows=len(frame), size_bytes=path.stat().st_size, sha256=file_sha256(path))

    def _encode(self, batch: pl.DataFrame) -> dict[str, np.ndarray]:
        encoded: dict[str, Any] = self._graph(raw_tensors(self._transform, batch))
        values = {name: np.asarray(value) for name, value in encoded.items()}
        for task in self._tasks:
            labels = batch[label_column(task)].cast(pl.Float32).fill_null(float("nan"))
            values[f"{LABEL_PREFIX}{task}"] = labels.to_numpy()
        return values


def _batches(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    return (frame.slice(start, _BATCH_ROWS) for start in range(0, len(frame), _BATCH_ROWS))


def _silent(rows: int) -> None:
    del rows


def _label_statistics(table: pl.LazyFrame, task: str) -> LabelStatistics:
    """Counts and means of a task's labels in the training part."""
    label = pl.col(label_column(task)).fill_nan(None)
    counted = (
        table.filter(pl.col(SPLIT) == "train")
        .select(
            rows=pl.len(),
            labels=label.count(),
            positives=(label > 0).sum(),
            mean=label.mean(),
            mean_log1p=pl.when(label.min() > -1).then(label.log1p().mean()),
        )
        .collect()
        .row(0, named=True)
    )
    return LabelStatistics(**counted)
