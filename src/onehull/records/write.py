"""Samples → shards: the transform graph encodes, NumPy lays out the rows, TensorFlow writes the records.

The table is read once, in batches, so that it may be larger than memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import tensorflow as tf

from onehull.errors import ArtifactError
from onehull.features.graph import raw_signature, transform_model
from onehull.features.tensors import raw_tensors
from onehull.features.transform import Transform
from onehull.files import replace_directory, restore_directory
from onehull.records.distribution import LabelSample
from onehull.records.example import Column, ExampleEncoder, id_bytes
from onehull.records.manifest import MANIFEST, LabelStatistics, RecordsManifest, Shard
from onehull.records.row_plan import LABEL_PREFIX, RowPlan, plan_row
from onehull.records.shard_writer import ShardWriter
from onehull.records.verify import note_checked
from onehull.records.words import RowWords
from onehull.spec.labels import LabelDistribution
from onehull.spec.records import Records
from onehull.spec.samples import REPEATS, SAMPLE, SPLIT, SPLITS, SplitName, feature_column, label_column

_BATCH_ROWS = 8192

Progress = Callable[[int], None]
"""Called with the number of rows that have been written since the last call."""


def write_records(
    samples: Path,
    transform: Transform,
    tasks: Sequence[str],
    out_dir: Path,
    *,
    settings: Records | None = None,
    quantities: Mapping[str, str | None] | None = None,
    progress: Progress | None = None,
) -> RecordsManifest:
    """Writes the shards of every part, in the order of the samples table, and the manifest last.

    The directory is built beside its place and moved there when it is whole.

    Args:
        samples: the samples table (see `onehull.spec.samples`).
        transform: raw values → encoded inputs.
        tasks: names of the tasks whose labels are written.
        out_dir: directory of the shards; replaced as a whole.
        settings: layout, compression, rows of a block and of a shard.
        quantities: the tasks whose labels' distribution is measured, and the feature that holds the duration of what is
            watched, or None.
        progress: told about rows as they are written.

    Raises:
        ArtifactError: the samples table is missing, or the disk is full or not writable; what stood there before is
            intact.
    """
    building = out_dir.with_name(f".{out_dir.name}.building")
    if not samples.is_file():
        raise ArtifactError(f"{samples} is missing. Make it with: onehull assemble")
    settings = settings or Records()
    plan = plan_row(transform.inputs, tasks) if settings.layout == "blocks" else None
    try:
        restore_directory(out_dir)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        table = pl.scan_parquet(samples)
        measured = [LabelSample(task, duration) for task, duration in (quantities or {}).items()]
        writers = {split: ShardWriter(building, split, settings) for split in SPLITS}
        splits = _write_parts(table, transform, tasks, writers, plan, measured, progress or _silent)
        distributions = {sample.task: sample.distribution() for sample in measured}
        manifest = RecordsManifest(
            inputs=transform.inputs,
            tasks=tuple(tasks),
            splits=splits,
            labels={task: _label_statistics(table, task, distributions.get(task)) for task in tasks},
            settings=settings,
            row=plan,
        )
        (building / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        note_checked(building, [shard for shards in splits.values() for shard in shards])
        replace_directory(building, out_dir)
    except (OSError, tf.errors.OpError) as error:
        remedy = "What stood there before is intact. Free some space or choose another directory, then run it again."
        raise ArtifactError(f"{out_dir}: the shards cannot be written: {error}. {remedy}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return manifest


def _write_parts(
    table: pl.LazyFrame,
    transform: Transform,
    tasks: Sequence[str],
    writers: Mapping[SplitName, ShardWriter],
    plan: RowPlan | None,
    measured: Sequence[LabelSample],
    progress: Progress,
) -> dict[SplitName, tuple[Shard, ...]]:
    """Writes the shards of all parts in one pass over the table."""
    encode = tf.function(transform_model(transform), input_signature=[raw_signature(transform)])
    if plan is None:
        laid_out = ExampleEncoder(_columns(transform, tasks)).encode
    else:
        laid_out = RowWords(plan, transform.inputs, tasks).pack
    columns = [SPLIT, *map(feature_column, transform.features), *map(label_column, tasks)]
    batches = table.select(columns).collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True, engine="streaming")
    try:
        for batch in batches:
            values = {name: np.asarray(value) for name, value in encode(raw_tensors(transform, batch)).items()}
            labels = _labels(batch, tasks)
            rows = laid_out({**values, **labels})
            train_B = (batch[SPLIT] == "train").to_numpy()
            for sample in measured:
                sample.add(values, labels[f"{LABEL_PREFIX}{sample.task}"], train_B)
            for split, writer in writers.items():
                writer.write(rows[(batch[SPLIT] == split).to_numpy()])
            progress(len(batch))
        return {split: writer.finish() for split, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.close()


def _columns(transform: Transform, tasks: Sequence[str]) -> list[Column]:
    """Features of the Examples, in the order of their names, as protobuf's deterministic form has them."""
    inputs = [Column(i.name, i.length, 0 if i.kind == "dense" else id_bytes(i.rows - 1)) for i in transform.inputs]
    labels = [Column(f"{LABEL_PREFIX}{task}", 1) for task in tasks]
    return sorted([*inputs, *labels], key=lambda column: column.name)


def _labels(batch: pl.DataFrame, tasks: Sequence[str]) -> Mapping[str, np.ndarray]:
    filled = batch.select(pl.col(label_column(task)).cast(pl.Float32).fill_null(np.nan) for task in tasks)
    return {f"{LABEL_PREFIX}{task}": filled[label_column(task)].to_numpy() for task in tasks}


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
    return LabelStatistics(**counted, distribution=distribution, late_share=_late_share(table, task))


def _late_share(table: pl.LazyFrame, task: str) -> float | None:
    """Positives of training samples that were none in the sample's first row, over all of them."""
    if REPEATS not in table.collect_schema():
        return None
    label, first = pl.col(label_column(task)), pl.col(REPEATS).is_null()
    again = table.filter((pl.col(SPLIT) == "train") & (pl.col(REPEATS) == task) & (label == 1))
    early = table.filter((pl.col(SPLIT) == "train") & first & (label == 1)).select(SAMPLE)
    late = again.join(early, on=SAMPLE, how="anti").select(pl.len())
    counts = pl.collect_all([late, early.select(pl.len())], engine="streaming")
    came_late, came_early = (count.item() for count in counts)
    return came_late / (came_late + came_early) if came_late + came_early else None
