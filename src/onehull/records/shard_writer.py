"""Rows → files of one part: blocks of rows, a new file after every so many, and where each block begins.

Shapes: ``B`` rows, ``W`` words or bytes of a row.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from onehull.records.manifest import Shard, file_sha256
from onehull.spec.records import Compression, Records
from onehull.spec.samples import SplitName

BLOCK = "rows"
"""The only feature of an Example of the layout ``blocks``: the words of all its rows, compressed where asked for."""
_FRAME_BYTES = 16
"""Length and two sums that TFRecord puts around each record."""
_LEVEL = 1
"""Of compression. Higher ones take several times as long for a few per cent, and shards are read often."""

_COMPRESS: dict[Compression, Callable[[bytes], bytes]] = {
    "none": lambda content: content,
    # Without the time, which would give the same rows another SHA-256.
    "gzip": lambda content: gzip.compress(content, _LEVEL, mtime=0),
    "zlib": lambda content: zlib.compress(content, _LEVEL),
}
_FILE_COMPRESSION = {"none": "", "gzip": "GZIP", "zlib": "ZLIB"}


class ShardWriter:
    """Writes the rows of one part in order.

    Args:
        directory: where the files go.
        split: name of the part.
        settings: layout, compression, rows of a block and of a file.
    """

    def __init__(self, directory: Path, split: SplitName, settings: Records) -> None:
        self._directory, self._split, self._settings = directory, split, settings
        self._blocks = settings.layout == "blocks"
        self._compress = _COMPRESS[settings.compression]
        compression = "" if self._blocks else _FILE_COMPRESSION[settings.compression]
        self._options = tf.io.TFRecordOptions(compression, compression_level=_LEVEL) if compression else None
        self._rows: list[int] = []
        self._offsets: list[list[int]] = []
        self._pending: np.ndarray | None = None
        self._position = 0
        self._file: Any = None

    def write(self, rows_BW: np.ndarray) -> None:
        """Appends rows: words of the layout ``blocks``, or the bytes of one Example each."""
        pending = rows_BW if self._pending is None else np.concatenate([self._pending, rows_BW])
        done = 0
        while len(pending) - done >= (size := self._next_block()):
            self._write_block(pending[done : done + size])
            done += size
        self._pending = pending[done:].copy()  # not a view, which would keep the whole batch

    def finish(self) -> tuple[Shard, ...]:
        """Writes what is left, and names the files, now that their number is known."""
        if self._pending is not None and len(self._pending):
            self._write_block(self._pending)
        self.close()
        return tuple(self._shard(index) for index in range(len(self._rows)))

    def close(self) -> None:
        """Closes the file that is open; a disk that is full may say so only now."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _next_block(self) -> int:
        """Rows of the next block: a file ends with a block."""
        filled = self._rows[-1] % self._settings.rows_per_shard if self._rows else 0
        return min(self._settings.rows_per_block, self._settings.rows_per_shard - filled)

    def _write_block(self, rows_BW: np.ndarray) -> None:
        if self._file is None or self._rows[-1] == self._settings.rows_per_shard:
            self.close()
            self._file = tf.io.TFRecordWriter(str(self._open_path(len(self._rows))), self._options)
            self._position = 0
            self._rows.append(0)
            self._offsets.append([])
        if self._options is None or not self._offsets[-1]:
            self._offsets[-1].append(self._position)
        for record in self._records(rows_BW):
            self._file.write(record)
            self._position += len(record) + _FRAME_BYTES
        self._rows[-1] += len(rows_BW)

    def _records(self, rows_BW: np.ndarray) -> Iterator[bytes]:
        content = rows_BW.tobytes()
        if self._blocks:
            value = tf.train.BytesList(value=[self._compress(content)])
            features = tf.train.Features(feature={BLOCK: tf.train.Feature(bytes_list=value)})
            yield tf.train.Example(features=features).SerializeToString()
            return
        size = rows_BW.shape[1]
        for start in range(0, len(content), size):
            yield content[start : start + size]

    def _open_path(self, index: int) -> Path:
        return self._directory / f"{self._split}-{index:05d}.open"

    def _shard(self, index: int) -> Shard:
        name = f"{self._split}-{index:05d}-of-{len(self._rows):05d}.tfrecord"
        path = self._open_path(index).rename(self._directory / name)
        return Shard(
            file=name,
            rows=self._rows[index],
            size_bytes=path.stat().st_size,
            sha256=file_sha256(path),
            offsets=tuple(self._offsets[index]),
        )
