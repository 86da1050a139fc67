"""A part of the data from disk, block by block, in an order that (seed, epoch) alone decides.

Blocks of all files are read in a shuffled order; then the rows of each window of some 65,000 are shuffled. Every block
begins at a known byte of its file, so that a pass may start at any batch: no block before it is read, only the window
that it stands in is read whole. Blocks are read in parallel, and come in order.

Shapes: ``N`` blocks of the part, ``W`` words of a row, ``B`` rows.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from onehull.records.manifest import RecordsManifest
from onehull.records.row_plan import LABEL_PREFIX
from onehull.records.shard_writer import BLOCK
from onehull.spec.records import Compression
from onehull.spec.samples import SplitName

_WINDOW_ROWS, _WINDOW_BYTES = 65_536, 64 << 20
"""Rows that are shuffled together: fewer where rows are long, because some windows are in memory at once."""
_WINDOWS_AT_ONCE = 2
_BUFFER_BYTES = 256 << 10
_FILE_COMPRESSION: dict[Compression, str] = {"none": "", "gzip": "GZIP", "zlib": "ZLIB"}


class BlockReader:
    """Reads the blocks of one part.

    Args:
        records: directory of shards.
        manifest: what they are.
        split: which part.
    """

    def __init__(self, records: Path, manifest: RecordsManifest, split: SplitName) -> None:
        self._manifest, self._settings = manifest, manifest.settings
        self._words = manifest.plan().words
        shards = manifest.splits[split]
        self._files = [str(records / shard.file) for shard in shards]
        blocks = [
            (file, start, end - start, offset)
            for file, shard in enumerate(shards)
            for (start, end), offset in zip(self._bounds(shard.rows, len(shard.offsets)), shard.offsets, strict=True)
        ]
        table_N4 = np.array(blocks, np.int64).reshape(-1, 4)
        self._file_N, self._rows_N, self._offset_N = table_N4[:, 0], table_N4[:, 2], table_N4[:, 3]

    def batches(self, batch_size: int, start: int, random: np.random.Generator | None) -> tf.data.Dataset:
        """Batches of one pass.

        Args:
            batch_size: rows of a batch; the last one may have fewer.
            start: number of the first batch that is wanted.
            random: decides the order; None: as the rows were written.

        Returns:
            int32 ``(B, W)``.
        """
        first_row = start * batch_size
        if random is None:
            return self._rows_from(np.arange(len(self._rows_N)), first_row).rebatch(batch_size)
        order_N = random.permutation(len(self._rows_N))
        seed = tf.constant(random.integers(2**31), tf.int32)
        size = max(1, min(_WINDOW_ROWS, _WINDOW_BYTES // (4 * self._words)))
        begun, skipped = divmod(first_row, size)

        @tf.autograph.experimental.do_not_convert
        def shuffled(number: Any, words_BW: Any) -> Any:
            rows = tf.range(tf.shape(words_BW)[0])
            order_B = tf.random.experimental.stateless_shuffle(rows, tf.stack([seed, tf.cast(number, tf.int32)]))
            return tf.gather(words_BW, order_B[tf.where(number == begun, skipped, 0) :])

        windows = self._rows_from(order_N, begun * size).rebatch(size).enumerate(begun)
        # One window ahead, so that the first batch of a window does not wait for all of its blocks.
        return windows.map(shuffled, num_parallel_calls=_WINDOWS_AT_ONCE).prefetch(1).rebatch(batch_size)

    def pieces(self) -> tf.data.Dataset:
        """All rows in the order in which they were written, int32 ``(some rows, W)``."""
        return self._rows_from(np.arange(len(self._rows_N)), 0)

    def _bounds(self, rows: int, blocks: int) -> list[tuple[int, int]]:
        """First and last row of each block of a file."""
        if blocks == 1:
            return [(0, rows)]
        starts = [*range(0, rows, self._settings.rows_per_block), rows]
        return list(itertools.pairwise(starts))

    def _rows_from(self, order_N: np.ndarray, first_row: int) -> tf.data.Dataset:
        """Rows of blocks in an order, from one row on: int32 ``(some rows, W)``."""
        ends_N = np.cumsum(self._rows_N[order_N])
        first = int(np.searchsorted(ends_N, first_row, side="right"))
        wanted = order_N[first:]
        skip = np.zeros_like(wanted)
        if len(wanted):
            skip[0] = first_row - (ends_N[first] - self._rows_N[wanted[0]])
        columns = (self._file_N[wanted], self._offset_N[wanted], self._rows_N[wanted], skip)
        files = tf.constant(self._files, tf.string)

        @tf.autograph.experimental.do_not_convert
        def read(file: Any, offset: Any, rows: Any, skip: Any) -> Any:
            words_BW = self._read(files[file], offset, rows)
            complete = tf.debugging.assert_equal(tf.shape(words_BW, tf.int64)[0], rows, "a block lacks rows")
            with tf.control_dependencies([complete]):
                return tf.ensure_shape(words_BW[skip:], (None, self._words))

        return tf.data.Dataset.from_tensor_slices(columns).map(read, num_parallel_calls=tf.data.AUTOTUNE)

    def _read(self, file: Any, offset: Any, rows: Any) -> Any:
        """One block as int32 ``(rows, W)``."""
        if self._settings.layout == "blocks":
            (example,) = tf.unstack(_records(file, offset, tf.constant(1, tf.int64), ""), num=1)
            content = tf.io.parse_single_example(example, {BLOCK: tf.io.FixedLenFeature((), tf.string)})[BLOCK]
            if self._settings.compression != "none":
                content = tf.io.decode_compressed(content, _FILE_COMPRESSION[self._settings.compression])
            return tf.reshape(tf.io.decode_raw(content, tf.int32), (-1, self._words))
        return self._parsed(_records(file, offset, rows, _FILE_COMPRESSION[self._settings.compression]))

    def _parsed(self, examples_B: Any) -> Any:
        """Examples of one row each → words, as `onehull.records.row_plan.plan_row` lays them out unpacked."""
        inputs = self._manifest.inputs
        stored = {"int32": tf.int64, "float32": tf.float32}
        formats = {item.name: tf.io.FixedLenFeature((item.length,), stored[item.dtype]) for item in inputs}
        formats |= {name: tf.io.FixedLenFeature((1,), tf.float32) for name in self._labels()}
        # Parsing many at once is what makes it fast.
        values = tf.io.parse_example(examples_B, formats)
        plan = self._manifest.plan()
        numbers = [tf.bitcast(values[name], tf.int32) for name in plan.numbers]
        return tf.concat([*numbers, *(tf.cast(values[name], tf.int32) for name in self._ids())], 1)

    def _labels(self) -> list[str]:
        return [f"{LABEL_PREFIX}{task}" for task in self._manifest.tasks]

    def _ids(self) -> list[str]:
        """Inputs with ids, in the order of their first words."""
        ids = self._manifest.plan().ids
        return sorted(ids, key=lambda name: ids[name][0].word)


def _records(file: Any, offset: Any, count: Any, compression: str) -> Any:
    """Some records of a file from a byte on: strings ``(count,)``.

    `tf.data.TFRecordDataset` begins at the start of a file; the operation underneath can begin anywhere.
    """
    one = {"output_types": [tf.string], "output_shapes": [()]}
    many = {"output_types": [tf.string], "output_shapes": [(None,)]}
    records = tf.raw_ops.TFRecordDatasetV2(
        filenames=file,
        compression_type=compression,
        buffer_size=_BUFFER_BYTES,
        byte_offsets=offset,
    )
    taken = tf.raw_ops.TakeDataset(input_dataset=records, count=count, **one)
    batch = tf.raw_ops.BatchDatasetV2(input_dataset=taken, batch_size=count, drop_remainder=False, **many)
    return tf.raw_ops.DatasetToSingleElement(dataset=batch, **many)[0]
