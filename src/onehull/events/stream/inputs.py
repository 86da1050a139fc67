"""Log files read side by side, in the order of their events' time; and the moment up to which they are complete.

A file is a source of its own, unless it is a segment (``…/PARTITION/FIRST/events.jsonl``, the directory's name being a
number): the segments of a partition are one source, read in their order. The next block is always one of the source
that is furthest behind, so that a partition with much to catch up on does not make the others' events late.

How far a source has come is the median time of some lines near the end of its last block: one event from the future, or
of a clock that jumped, moves it little.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np

from onehull.errors import DataError
from onehull.events.files import find_files
from onehull.events.lines import UNREADABLE, Block, read_blocks
from onehull.events.times import LAST_SECOND, seconds_since_1970
from onehull.spec.section import Section

_SAMPLED_LINES = 15
_IDLE_SECONDS = 60.0
"""A source that had nothing new for so long does not hold the others up any more."""


class Place(Section):
    """How far a source has been read."""

    file: str
    """Path of its last file, relative to the data directory."""
    bytes: int
    lines: int
    reached: float
    """Seconds since 1970."""


class _Timed(msgspec.Struct, gc=False):
    time: datetime | float


_decode = msgspec.json.Decoder(_Timed).decode


@dataclass
class Source:
    """Files that hold one sequence of events.

    Attributes:
        name: of the file, or of the partition's directory, relative to the data directory.
        files: in order.
        place: how far it has been read; None before the first block.
        read_at: when it last had something new, on the clock that only goes forward.
    """

    name: str
    files: list[Path]
    place: Place | None = None
    read_at: float = field(default_factory=time.monotonic)

    @property
    def is_partition(self) -> bool:
        """Whether it is more than one file, which has the source's name."""
        return self.place is not None and self.place.file != self.name

    def pending(self, root: Path) -> bool:
        """Whether there are bytes that have not been read."""
        rest = self.unread(root)
        if not rest:
            return False
        position = (
            self.place.bytes if self.place is not None and str(rest[0].relative_to(root)) == self.place.file else 0
        )
        return len(rest) > 1 or _longer(rest[0], position)

    def check_grown(self, root: Path) -> None:
        """Raises DataError where what has been read is not there any more."""
        file = root / self.place.file if self.place is not None else None
        if file is None or self.place is None or file.suffix == ".gz" or not file.is_file():
            return
        if file.stat().st_size < self.place.bytes:
            rule = f"{file} is shorter than what has been read of it ({self.place.bytes} bytes): it was replaced"
            raise DataError(f"{rule}. Begin anew with --force, or give the new log another name.")

    def waiting_bytes(self, root: Path) -> int:
        """Bytes that have not been read (of packed files, about)."""
        return sum(file.stat().st_size for file in self.unread(root)) - (self.place.bytes if self.place else 0)

    def unread(self, root: Path) -> list[Path]:
        """Its files from the last one that was read on."""
        if self.place is None:
            return self.files
        return [file for file in self.files if str(file.relative_to(root)) >= self.place.file]


class Inputs:
    """The sources of a stream.

    Args:
        root: the data directory.
        patterns: globs of the files.
        places: how far each source has been read, by its name.
    """

    def __init__(self, root: Path, patterns: Sequence[str], places: Mapping[str, Place]) -> None:
        self._root = root
        self._patterns = patterns
        self._sources = {name: Source(name, [], place) for name, place in places.items()}
        self._readers: dict[str, Iterator[tuple[Path, Block]]] = {}
        self._reached: dict[str, float] = {name: place.reached for name, place in places.items()}
        self._drained: set[str] = set(places)
        self._read = self._total = 0
        self.look()

    @property
    def places(self) -> dict[str, Place]:
        """How far each source has been read."""
        return {name: source.place for name, source in self._sources.items() if source.place is not None}

    @property
    def files(self) -> int:
        """Files at the last look."""
        return sum(len(source.files) for source in self._sources.values())

    @property
    def pending(self) -> bool:
        """Whether there is something that has not been read."""
        return bool(self._readers)

    @property
    def share(self) -> float:
        """Share of the bytes that have been read of those that were there at the last look."""
        return min(1.0, self._read / max(1, self._total))

    def look(self) -> None:
        """Finds new files, and files that have grown."""
        found: dict[str, list[Path]] = {}
        self._read, self._total = 0, 0
        for file in sorted({file for pattern in self._patterns for file in find_files(self._root, pattern)}):
            found.setdefault(_source_name(file, self._root), []).append(file)
        for name, files in found.items():
            source = self._sources.setdefault(name, Source(name, []))
            source.files = files
            source.check_grown(self._root)
            if source.pending(self._root):
                self._total += source.waiting_bytes(self._root)
                self._drained.discard(name)
                self._readers.setdefault(name, self._blocks(source))
                if name not in self._reached:
                    self._reached[name] = _first_time(files[0])

    def __iter__(self) -> Iterator[tuple[Path, Block]]:
        """Blocks and their files, the source that is furthest behind first, until everything has been read."""
        while self._readers:
            name = min(self._readers, key=lambda name: (self._reached[name], name))
            source = self._sources[name]
            found = next(self._readers[name], None)
            if found is None:
                del self._readers[name]
                self._drained.add(name)
                continue
            path, block = found
            self._reached[name] = max(self._reached[name], _reached(block.text, self._reached[name]))
            last = block.first + block.count - 1
            source.place = Place(
                file=str(path.relative_to(self._root)), bytes=block.end, lines=last, reached=self._reached[name]
            )
            source.read_at = time.monotonic()
            self._read += len(block.text)
            yield path, block

    def complete_until(self, *, waiting: bool) -> float:
        """The moment that every source has reached, in seconds since 1970; minus infinity where nothing was read.

        Args:
            waiting: more may come: a partition that has been read to its end holds the others up for a while. A file
                of its own does not: a day's file ends with the day.
        """
        now = time.monotonic()
        behind = [
            self._reached[name]
            for name, source in self._sources.items()
            if name not in self._drained or (waiting and source.is_partition and now - source.read_at < _IDLE_SECONDS)
        ]
        reached = [self._reached[name] for name, source in self._sources.items() if source.place is not None]
        return min(behind, default=max(reached, default=float("-inf")))

    def _blocks(self, source: Source) -> Iterator[tuple[Path, Block]]:
        for file in source.unread(self._root):
            name, place = str(file.relative_to(self._root)), source.place
            start, lines = (place.bytes, place.lines) if place is not None and place.file == name else (0, 0)
            for block in read_blocks(file, start, lines + 1):
                if (whole := _whole_lines(block)).text:
                    yield file, whole


def _source_name(file: Path, root: Path) -> str:
    if file.parent.name.isdecimal() and file.parent.parent != root:
        return str(file.parent.parent.relative_to(root))
    return str(file.relative_to(root))


def _longer(file: Path, position: int) -> bool:
    if file.suffix == ".gz":  # its unpacked length is known when it has been read
        return next(read_blocks(file, position), None) is not None
    return file.stat().st_size > position


def _whole_lines(block: Block) -> Block:
    """Without a last line that is still being written: it has no end, and is no whole object."""
    if block.text.endswith(b"\n"):
        return block
    rest = block.text.rfind(b"\n") + 1
    with suppress(*UNREADABLE):
        msgspec.json.decode(block.text[rest:])
        return block
    return Block(block.first, block.text[:rest], block.end - (len(block.text) - rest))


def _first_time(file: Path) -> float:
    block = next(read_blocks(file), None)
    if block is None:
        return 0.0
    head = block.text.split(b"\n", _SAMPLED_LINES)[:_SAMPLED_LINES]
    return _median_time(head, 0.0)


def _reached(text: bytes, before: float) -> float:
    """Median time of some lines of the last quarter; what was reached before where none can be read."""
    lines = []
    for place in np.linspace(len(text) * 3 // 4, len(text) - 1, _SAMPLED_LINES).astype(int).tolist():
        begin = text.rfind(b"\n", 0, place) + 1
        end = text.find(b"\n", place)
        lines.append(text[begin : end if end >= 0 else None])
    return _median_time(lines, before)


def _median_time(lines: Sequence[bytes], before: float) -> float:
    times = []
    for line in lines:
        with suppress(*UNREADABLE):
            seconds = seconds_since_1970(_decode(line).time)
            if 0 <= seconds < LAST_SECOND:
                times.append(seconds)
    return float(np.median(times)) if times else before
