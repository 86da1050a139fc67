"""Shards → batches of ``(inputs, labels)``.

Data that fit in memory are parsed once; every epoch then gathers rows in an order of its own, over all rows. Larger
data are read shard by shard, in a shuffled order of shards through a buffer of rows. Either way the order is a function
of (seed, epoch), so that a run that continues at epoch 3 sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from onehull.records.manifest import LABEL_PREFIX, MANIFEST, RecordsManifest, verify_records
from onehull.spec.inputs import ModelInput
from onehull.spec.samples import SplitName

MEMORY_LIMIT_BYTES = 1 << 30
"""A part whose parsed rows need no more than this is kept in memory."""

_BUFFER_ROWS = 65_536
_PARSE_ROWS = 4096
_CYCLE_SHARDS = 4

Arrays = dict[str, tf.Tensor]


def read_records(
    records: Path,
    split: SplitName,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> tf.data.Dataset:
    """One pass over a part.

    Args:
        records: directory of shards.
        split: which part.
        batch_size: rows of a batch; the last one may have fewer.
        shuffle: rows in an order that depends on (seed, epoch); otherwise that of the samples table.
        seed: of the order.
        epoch: of the order.
        memory_limit_bytes: parts larger than this are streamed from disk.

    Returns:
        Batches ``(inputs, labels)``: inputs as in `ModelInput`, labels float32 ``(B,)`` by task, NaN where missing.

    Raises:
        ArtifactError: a shard is missing, cut short or altered.
    """
    manifest = _verified(records)
    epochs = tf.data.Dataset.from_tensors(tf.constant(epoch, tf.int64))
    batches = _passes(records, manifest, split, epochs, batch_size, shuffle, seed, memory_limit_bytes)
    # Keras asks how long an epoch is, and a nested dataset does not know.
    return batches.apply(tf.data.experimental.assert_cardinality(-(-manifest.rows(split) // batch_size)))


def load_arrays(records: Path, split: SplitName) -> Arrays:
    """All rows of a part as tensors, inputs and labels under their feature names, in the order of the samples table."""
    _verified(records)
    return _load(str(records), split, (records / MANIFEST).stat().st_mtime_ns)


def _passes(
    records: Path,
    manifest: RecordsManifest,
    split: SplitName,
    epochs: tf.data.Dataset,
    batch_size: int,
    shuffle: bool,
    seed: int,
    limit: int,
) -> tf.data.Dataset:
    size = manifest.rows(split) * _row_bytes(manifest)
    if size <= limit:
        batches = _from_memory(load_arrays(records, split), manifest.rows(split), epochs, batch_size, shuffle, seed)
    else:
        batches = _from_disk(records, manifest, split, epochs, batch_size, shuffle, seed)
    return batches.map(_split_labels, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _from_memory(
    arrays: Arrays, rows: int, epochs: tf.data.Dataset, batch_size: int, shuffle: bool, seed: int
) -> tf.data.Dataset:
    def one_pass(epoch: Any) -> tf.data.Dataset:
        def gather(indices: Any) -> Arrays:
            if shuffle:
                key = tf.stack([tf.constant(seed, tf.int64), epoch])
                indices = tf.random.experimental.index_shuffle(indices, tf.cast(key, tf.int32), rows - 1)
            return {name: tf.gather(values, indices) for name, values in arrays.items()}

        return tf.data.Dataset.range(rows).batch(batch_size).map(gather, num_parallel_calls=tf.data.AUTOTUNE)

    return epochs.flat_map(one_pass)


def _from_disk(
    records: Path,
    manifest: RecordsManifest,
    split: SplitName,
    epochs: tf.data.Dataset,
    batch_size: int,
    shuffle: bool,
    seed: int,
) -> tf.data.Dataset:
    files = [str(records / shard.file) for shard in manifest.splits[split]]

    def one_pass(epoch: Any) -> tf.data.Dataset:
        names = tf.data.Dataset.from_tensor_slices(files)
        if not shuffle:
            return names.flat_map(tf.data.TFRecordDataset).batch(batch_size)
        key = seed * 1_000_003 + epoch
        rows = names.shuffle(len(files), seed=key).interleave(tf.data.TFRecordDataset, cycle_length=_CYCLE_SHARDS)
        return rows.shuffle(_BUFFER_ROWS, seed=key + 1).batch(batch_size)

    features = _features(manifest)
    return epochs.flat_map(one_pass).map(lambda batch: _parse(batch, features), num_parallel_calls=tf.data.AUTOTUNE)


@lru_cache(maxsize=4)
def _load(records: str, split: SplitName, changed_ns: int) -> Arrays:
    del changed_ns  # a new manifest is another entry
    directory = Path(records)
    manifest = RecordsManifest.model_validate_json((directory / MANIFEST).read_bytes())
    features = _features(manifest)
    files = [str(directory / shard.file) for shard in manifest.splits[split]]
    batches = tf.data.TFRecordDataset(files).batch(_PARSE_ROWS).map(lambda batch: _parse(batch, features))
    parts: list[Mapping[str, np.ndarray]] = list(batches.as_numpy_iterator())
    if not parts:
        return {name: tf.zeros((0, *spec.shape), spec.dtype) for name, spec in features.items()}
    return {name: tf.constant(np.concatenate([part[name] for part in parts])) for name in features}


@lru_cache(maxsize=16)
def _verified_cached(records: str, changed_ns: int) -> RecordsManifest:
    del changed_ns
    return verify_records(Path(records))


def _verified(records: Path) -> RecordsManifest:
    """Checks the shards once for each manifest, not at every epoch."""
    path = records / MANIFEST
    return _verified_cached(str(records), path.stat().st_mtime_ns if path.is_file() else 0)


def _features(manifest: RecordsManifest) -> dict[str, tf.io.FixedLenFeature]:
    inputs = {item.name: _feature(item) for item in manifest.inputs}
    labels = {f"{LABEL_PREFIX}{task}": tf.io.FixedLenFeature((), tf.float32) for task in manifest.tasks}
    return {**inputs, **labels}


def _feature(item: ModelInput) -> tf.io.FixedLenFeature:
    return tf.io.FixedLenFeature(item.shape, tf.float32 if item.kind == "dense" else tf.int64)


def _parse(batch: Any, features: Mapping[str, Any]) -> Arrays:
    parsed = tf.io.parse_example(batch, features)
    return {name: tf.cast(value, tf.int32) if value.dtype == tf.int64 else value for name, value in parsed.items()}


def _split_labels(batch: Arrays) -> tuple[Arrays, Arrays]:
    inputs = {name: value for name, value in batch.items() if not name.startswith(LABEL_PREFIX)}
    labels = {name.removeprefix(LABEL_PREFIX): value for name, value in batch.items() if name.startswith(LABEL_PREFIX)}
    return inputs, labels


def _row_bytes(manifest: RecordsManifest) -> int:
    return 4 * (sum(item.length for item in manifest.inputs) + len(manifest.tasks))
