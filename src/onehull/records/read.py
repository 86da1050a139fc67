"""Shards → batches of ``(inputs, labels)``.

A part that fits in memory is parsed once; every pass then gathers its rows in an order of its own, over all rows.
Larger parts are read shard by shard, in a shuffled order of shards through a buffer of rows. Either way the order is a
function of (seed, epoch), so that a run that continues at epoch 3 sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from onehull.records.manifest import LABEL_PREFIX, MANIFEST, RecordsManifest, read_manifest, verify_records
from onehull.records.memory import RowTables, Shapes
from onehull.spec.samples import SplitName

MEMORY_LIMIT_BYTES = 1 << 30
"""A part whose parsed rows need no more than this is kept in memory."""

_BUFFER_ROWS = 65_536
_PARSE_ROWS = 4096
_CYCLE_SHARDS = 4

Arrays = dict[str, np.ndarray]
_Tensors = dict[str, Any]
_FileStates = tuple[tuple[str, int, int], ...]


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

    The shards are checked against the manifest, once in a process as long as no file changes.

    Args:
        records: directory of shards.
        split: which part.
        batch_size: rows of a batch; the last one may have fewer.
        shuffle: rows in an order that depends on (seed, epoch); otherwise that of the samples table.
        seed: of the order.
        epoch: of the order.
        memory_limit_bytes: a part that needs more than this is streamed from disk; 0 streams any part.

    Returns:
        Batches ``(inputs, labels)``: inputs as in `ModelInput`, labels float32 ``(B,)`` by task, NaN where missing.

    Raises:
        ArtifactError: a shard is missing, cut short or altered.
    """
    records = records.resolve()
    states = _file_states(records)
    manifest = _verified(records, states)
    rows = manifest.rows(split)
    random = np.random.default_rng((seed, epoch)) if shuffle else None
    if rows * _row_bytes(manifest) <= memory_limit_bytes:
        order = np.arange(rows) if random is None else random.permutation(rows)
        batches = _in_memory(records, split, states).epoch(batch_size, order)
    else:
        batches = _from_disk(records, manifest, split, batch_size, random)
    parts = batches.map(_split_labels, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    # Keras asks how long an epoch is, and files do not say.
    return parts.apply(tf.data.experimental.assert_cardinality(-(-rows // batch_size)))


def load_arrays(records: Path, split: SplitName) -> tuple[Arrays, Arrays]:
    """All rows of a part, in the order of the samples table.

    Args:
        records: directory of shards.
        split: which part.

    Returns:
        Inputs ``(R, …)`` and labels ``(R,)``, as in the batches of `read_records`.

    Raises:
        ArtifactError: a shard is missing, cut short or altered.
    """
    records = records.resolve()
    states = _file_states(records)
    _verified(records, states)
    return _split_labels(_in_memory(records, split, states).arrays())


def _from_disk(
    records: Path, manifest: RecordsManifest, split: SplitName, batch_size: int, random: np.random.Generator | None
) -> tf.data.Dataset:
    files = np.array([str(records / shard.file) for shard in manifest.splits[split]])
    if random is None:
        rows = tf.data.TFRecordDataset(files)
    else:
        shuffled = tf.data.Dataset.from_tensor_slices(random.permutation(files))
        rows = shuffled.interleave(tf.data.TFRecordDataset, cycle_length=_CYCLE_SHARDS)
        seed = int(random.integers(2**31))
        rows = rows.shuffle(_BUFFER_ROWS, seed=seed, reshuffle_each_iteration=False)
    return _parsed(rows.batch(batch_size), manifest)


@lru_cache(maxsize=3)  # the parts of one set of shards are read in turn
def _in_memory(records: Path, split: SplitName, states: _FileStates) -> RowTables:
    manifest = _verified(records, states)
    files = [str(records / shard.file) for shard in manifest.splits[split]]
    batches = _parsed(tf.data.TFRecordDataset(files).batch(_PARSE_ROWS), manifest).prefetch(2)
    return RowTables(_shapes(manifest), manifest.rows(split), batches.as_numpy_iterator())


@lru_cache(maxsize=16)
def _verified(records: Path, states: _FileStates) -> RecordsManifest:
    del states  # other files are another entry
    return verify_records(records)


def _file_states(records: Path) -> _FileStates:
    """Name, size and time of change of the manifest and of all shards that are there."""
    manifest = read_manifest(records)
    names = [MANIFEST, *(shard.file for shards in manifest.splits.values() for shard in shards)]
    stats = {name: (records / name).stat() for name in names if (records / name).is_file()}
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items())


def _shapes(manifest: RecordsManifest) -> Shapes:
    inputs = {item.name: (item.shape, item.dtype) for item in manifest.inputs}
    return {**inputs, **{f"{LABEL_PREFIX}{task}": ((), "float32") for task in manifest.tasks}}


def _parsed(batches: tf.data.Dataset, manifest: RecordsManifest) -> tf.data.Dataset:
    """Batches of serialised Examples → tensors by feature. Parsing a batch at once is what makes it fast."""
    stored = {"int32": tf.int64, "float32": tf.float32}
    formats = {name: tf.io.FixedLenFeature(shape, stored[dtype]) for name, (shape, dtype) in _shapes(manifest).items()}

    def parse(examples_B: Any) -> _Tensors:
        parsed = tf.io.parse_example(examples_B, formats)
        return {name: tf.cast(value, tf.int32) if value.dtype == tf.int64 else value for name, value in parsed.items()}

    return batches.map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def _split_labels(batch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    inputs = {name: value for name, value in batch.items() if not name.startswith(LABEL_PREFIX)}
    labels = {name.removeprefix(LABEL_PREFIX): value for name, value in batch.items() if name.startswith(LABEL_PREFIX)}
    return inputs, labels


def _row_bytes(manifest: RecordsManifest) -> int:
    return 4 * (sum(item.length for item in manifest.inputs) + len(manifest.tasks))
