"""Samples → shards: the transform graph encodes, NumPy lays out the Examples, TensorFlow writes the records.

The table is read once, in batches, so that it may be larger than memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tensorflow as tf

from onehull.errors import ArtifactError
from onehull.features.graph import raw_signature, transform_model
from onehull.features.tensors import raw_tensors
from onehull.features.transform import Transform
from onehull.records.distribution import LabelSample
from onehull.records.example import Column, ExampleEncoder, id_bytes
from onehull.records.manifest import LABEL_PREFIX, MANIFEST, LabelStatistics, RecordsManifest, Shard, file_sha256
from onehull.spec.labels import LabelDistribution
from onehull.spec.samples import SPLIT, SPLITS, SplitName, feature_column, label_column

_BATCH_ROWS = 8192

Progress = Callable[[int], None]
"""Called with the number of rows that have been written since the last call."""


def write_records(
    samples: Path,
    transform: Transform,
    tasks: Sequence[str],
    out_dir: Path,
    *,
    quantities: Mapping[str, str | None] | None = None,
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
        quantities: the tasks whose labels' distribution is measured, and the feature that holds the duration of what is
            watched, or None.
        rows_per_shard: rows of a shard, the last one of a part may have fewer.
        progress: told about rows as they are written.

    Raises:
        ArtifactError: the samples table is missing, or the disk is full or not writable; what stood there before is
            intact.
    """
    building, old = (out_dir.with_name(f".{out_dir.name}.{suffix}") for suffix in ("building", "old"))
    if not samples.is_file():
        raise ArtifactError(f"{samples} is missing. Make it with: onehull assemble")
    try:
        if old.exists() and not out_dir.exists():
            old.rename(out_dir)  # killed between the two renames of an earlier swap
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        table = pl.scan_parquet(samples)
        measured = [LabelSample(task, duration) for task, duration in (quantities or {}).items()]
        splits = _write_parts(table, transform, tasks, building, rows_per_shard, measured, progress or _silent)
        distributions = {sample.task: sample.distribution() for sample in measured}
        manifest = RecordsManifest(
            inputs=transform.inputs,
            tasks=tuple(tasks),
            splits=splits,
            labels={task: _label_statistics(table, task, distributions.get(task)) for task in tasks},
        )
        (building / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        _swap(building, out_dir, old)
    except (OSError, tf.errors.OpError) as error:
        remedy = "What stood there before is intact. Free some space or choose another directory, then run it again."
        raise ArtifactError(f"{out_dir}: the shards cannot be written: {error}. {remedy}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return manifest


def _swap(building: Path, out_dir: Path, old: Path) -> None:
    """Puts a finished directory in its place; an interruption leaves the old or the new one whole."""
    shutil.rmtree(old, ignore_errors=True)
    if out_dir.exists():
        out_dir.rename(old)
    building.rename(out_dir)
    shutil.rmtree(old, ignore_errors=True)


def _write_parts(
    table: pl.LazyFrame,
    transform: Transform,
    tasks: Sequence[str],
    directory: Path,
    rows_per_shard: int,
    measured: Sequence[LabelSample],
    progress: Progress,
) -> dict[SplitName, tuple[Shard, ...]]:
    """Writes the shards of all parts in one pass over the table."""
    encode = tf.function(transform_model(transform), input_signature=[raw_signature(transform)])
    examples = ExampleEncoder(_columns(transform, tasks))
    writers = {split: _ShardWriter(directory, split, rows_per_shard) for split in SPLITS}
    columns = [SPLIT, *map(feature_column, transform.features), *map(label_column, tasks)]
    batches = table.select(columns).collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True, engine="streaming")
    try:
        for batch in batches:
            values = {name: np.asarray(value) for name, value in encode(raw_tensors(transform, batch)).items()}
            labels = _labels(batch, tasks)
            encoded = examples.encode({**values, **labels})
            train_B = (batch[SPLIT] == "train").to_numpy()
            for sample in measured:
                sample.add(values, labels[f"{LABEL_PREFIX}{sample.task}"], train_B)
            for split, writer in writers.items():
                writer.write(encoded[(batch[SPLIT] == split).to_numpy()])
            progress(len(batch))
    finally:
        for writer in writers.values():
            writer.close()
    return {split: writer.finish() for split, writer in writers.items()}


def _columns(transform: Transform, tasks: Sequence[str]) -> list[Column]:
    """Features of the Examples, in the order of their names, as protobuf's deterministic form has them."""
    inputs = [Column(i.name, i.length, 0 if i.kind == "dense" else id_bytes(i.rows - 1)) for i in transform.inputs]
    labels = [Column(f"{LABEL_PREFIX}{task}", 1) for task in tasks]
    return sorted([*inputs, *labels], key=lambda column: column.name)


def _labels(batch: pl.DataFrame, tasks: Sequence[str]) -> Mapping[str, np.ndarray]:
    filled = batch.select(pl.col(label_column(task)).cast(pl.Float32).fill_null(np.nan) for task in tasks)
    return {f"{LABEL_PREFIX}{task}": filled[label_column(task)].to_numpy() for task in tasks}


class _ShardWriter:
    """Writes the rows of one part, a new file after every so many."""

    def __init__(self, directory: Path, split: SplitName, rows_per_shard: int) -> None:
        self._directory, self._split, self._rows_per_shard = directory, split, rows_per_shard
        self._rows: list[int] = []
        self._file: Any = None

    def write(self, examples: np.ndarray) -> None:
        """Appends Examples, uint8 ``(B, bytes of an Example)``."""
        done = 0
        while done < len(examples):
            if not self._rows or self._rows[-1] == self._rows_per_shard:
                self.close()
                self._file = tf.io.TFRecordWriter(str(self._open_path(len(self._rows))))
                self._rows.append(0)
            part = examples[done : done + self._rows_per_shard - self._rows[-1]]
            content, size = part.tobytes(), part.shape[1]
            for start in range(0, len(content), size):
                self._file.write(content[start : start + size])
            self._rows[-1] += len(part)
            done += len(part)

    def close(self) -> None:
        """Closes the file that is open; a disk that is full may say so only now."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def finish(self) -> tuple[Shard, ...]:
        """Names the files, now that their number is known."""
        return tuple(self._shard(index, rows) for index, rows in enumerate(self._rows))

    def _open_path(self, index: int) -> Path:
        return self._directory / f"{self._split}-{index:05d}.open"

    def _shard(self, index: int, rows: int) -> Shard:
        name = f"{self._split}-{index:05d}-of-{len(self._rows):05d}.tfrecord"
        path = self._open_path(index).rename(self._directory / name)
        return Shard(file=name, rows=rows, size_bytes=path.stat().st_size, sha256=file_sha256(path))


def _silent(rows: int) -> None:
    del rows


def _label_statistics(table: pl.LazyFrame, task: str, distribution: LabelDistribution | None) -> LabelStatistics:
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
        .collect(engine="streaming")
        .row(0, named=True)
    )
    return LabelStatistics(**counted, distribution=distribution)
