"""Shards → batches of ``(inputs, labels)``.

A part that fits in memory is read once; every pass then gathers its rows in an order of its own, over all rows. Larger
parts are read from disk, see `onehull.records.disk`. Either way the order is a function of (seed, epoch), and a pass
may begin at any batch, so that a run that continues in the middle of epoch 3 sees what it would have seen.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from onehull.records.disk import BlockReader
from onehull.records.manifest import MANIFEST, RecordsManifest, read_manifest
from onehull.records.memory import RowTable
from onehull.records.verify import check_parts
from onehull.records.words import RowWords
from onehull.spec.samples import SplitName

MEMORY_LIMIT_BYTES = 1 << 30
"""A part whose rows need no more than this is kept in memory."""

Arrays = dict[str, np.ndarray]
_FileStates = tuple[tuple[str, int, int], ...]


def read_records(
    records: Path,
    split: SplitName,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    start_batch: int = 0,
    worker: tuple[int, int] = (0, 1),
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> tf.data.Dataset:
    """One pass over a part, or the rest of one.

    The shards are checked against the manifest, once as long as no file changes. One that is lost while batches are
    drawn is TensorFlow's error; `reading_errors` makes one of it that names the file.

    Args:
        records: directory of shards.
        split: which part.
        batch_size: rows of a batch over all workers; the last one may have fewer.
        shuffle: rows in an order that depends on (seed, epoch); otherwise that of the samples table.
        seed: of the order.
        epoch: of the order.
        start_batch: number of the first batch that is wanted; those before it are not read.
        worker: (w, W): of each batch only the rows w, w + W, w + 2 W and so on. The last batch may have none of them.
        memory_limit_bytes: a part that needs more than this is streamed from disk; 0 streams any part.

    Returns:
        Batches ``(inputs, labels)``: inputs as in `ModelInput`, labels float32 ``(B,)`` by task, NaN where missing.

    Raises:
        ArtifactError: a shard is missing, cut short or altered.
        ValueError: the worker is none of the workers, or there is no such batch.
    """
    records = records.resolve()
    states = _file_states(records, split)
    manifest = _checked(records, split, states)
    rows = manifest.rows(split)
    count = -(-rows // batch_size)
    _check_place(start_batch, count, worker)
    words = _words(records, states)
    random = np.random.default_rng((seed, epoch)) if shuffle else None
    if rows * 4 * words.plan.words <= memory_limit_bytes:
        order = np.arange(rows) if random is None else random.permutation(rows)
        batches = _in_memory(records, split, states).batches(order, batch_size, start_batch, worker)
        unpack = words.unpack_batch
    else:
        batches = BlockReader(records, manifest, split).batches(batch_size, start_batch, random)
        first, step = worker

        @tf.autograph.experimental.do_not_convert
        def unpack(words_BW: Any) -> Any:
            return words.unpack_batch(words_BW[first::step])

    parts = batches.map(unpack, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    # Keras asks how long an epoch is, and files do not say.
    return parts.apply(tf.data.experimental.assert_cardinality(count - start_batch))


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
    states = _file_states(records, split)
    _checked(records, split, states)
    parts = _words(records, states).unpack_batch(_in_memory(records, split, states).words_RW)
    inputs, labels = ({name: value.numpy() for name, value in part.items()} for part in parts)
    return inputs, labels


def _check_place(start_batch: int, count: int, worker: tuple[int, int]) -> None:
    if not 0 <= start_batch <= count:
        raise ValueError(f"start_batch must be from 0 to {count}, the batches of a pass. Received {start_batch}.")
    if not 0 <= worker[0] < worker[1]:
        raise ValueError(f"worker must be (w, W) with w from 0 to W - 1. Received {worker}.")


@lru_cache(maxsize=3)  # the parts of one set of shards are read in turn
def _in_memory(records: Path, split: SplitName, states: _FileStates) -> RowTable:
    manifest = _checked(records, split, states)
    pieces = BlockReader(records, manifest, split).pieces().prefetch(2).as_numpy_iterator()
    return RowTable(manifest.rows(split), manifest.plan().words, pieces)


@lru_cache(maxsize=16)
def _checked(records: Path, split: SplitName, states: _FileStates) -> RecordsManifest:
    del states  # other files are another entry
    manifest = read_manifest(records)
    check_parts(records, manifest, [split])
    return manifest


@lru_cache(maxsize=16)
def _words(records: Path, states: _FileStates) -> RowWords:
    """Kept, because what takes batches apart is a function that TensorFlow traces once."""
    del states
    manifest = read_manifest(records)
    return RowWords(manifest.plan(), manifest.inputs, manifest.tasks)


def _file_states(records: Path, split: SplitName) -> _FileStates:
    """Name, size and time of change of the manifest and of the shards of a part that are there."""
    names = [MANIFEST, *(shard.file for shard in read_manifest(records).splits[split])]
    stats = {name: (records / name).stat() for name in names if (records / name).is_file()}
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items())
