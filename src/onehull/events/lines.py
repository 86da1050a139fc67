"""Lines of log files, plain or gzip, in blocks; a file that ends in the middle is refused."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import msgspec

from onehull.errors import DataError

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a line raises: no JSON or of other types, no UTF-8, nested without end."""

_BLOCK_BYTES = 8 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Consecutive lines of one file.

    Attributes:
        first: number of the first one, counted from 1.
        text: the lines; the last one may lack its end.
        end: bytes of the (unpacked) file up to the last one's end.
    """

    first: int
    text: bytes
    end: int = 0

    @cached_property
    def lines(self) -> list[bytes]:
        """The lines without their ends."""
        found = self.text.split(b"\n")
        return found if found[-1] else found[:-1]

    @cached_property
    def count(self) -> int:
        """Number of lines."""
        return self.text.count(b"\n") + (self.text[-1:] not in {b"", b"\n"})


def read_blocks(path: Path, start: int = 0, first: int = 1) -> Iterator[Block]:
    """Reads a file of lines.

    Args:
        path: plain file, or gzip where the name ends in ``.gz``.
        start: bytes that are passed over: the `Block.end` of a block that was read before.
        first: number of the line that begins there.

    Yields:
        Blocks of whole lines, in order.

    Raises:
        DataError: the file cannot be read, or its gzip stream is damaged or cut off. Half a feedback log would
            turn unread positives into negatives, so such a file is refused rather than read in part.
    """
    with _open(path) as file:
        while True:
            try:
                if file.tell() != start:
                    file.seek(start)
                text = file.read(_BLOCK_BYTES)
                text += file.readline() if not text.endswith(b"\n") else b""
            except (EOFError, zlib.error, OSError) as error:
                message = f"{path}: the file is damaged or cut off after line {first - 1}: {error}."
                raise DataError(f"{message} Deliver the file again.") from error
            if not text:
                return
            start += len(text)
            if first == 1 and text.startswith(_BYTE_ORDER_MARK):
                text = text[len(_BYTE_ORDER_MARK) :]
            block = Block(first, text, start)
            yield block
            first += block.count


def read_lines(path: Path, numbers: Iterator[int]) -> Iterator[bytes]:
    """The lines with the given ascending numbers, counted from 1."""
    wanted = next(numbers, None)
    for block in read_blocks(path):
        while wanted is not None and wanted < block.first + block.count:
            yield block.lines[wanted - block.first]
            wanted = next(numbers, None)
        if wanted is None:
            return


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as file:
            yield gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file  # type: ignore[misc]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
