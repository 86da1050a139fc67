"""Segments: directories that hold a stretch of one partition and the place where the next stretch begins.

``OUT/TOPIC/PARTITION/FIRST/`` with ``events.jsonl`` (one event a line), ``quarantine.jsonl`` (what was refused, with
the reason) and ``segment.json`` (`SegmentBooks`). A segment is built beside its place, brought to the disk, and moved
there by one rename. The file system refuses to move a directory over one that is not empty, so that of two processes
which both believe to own a partition only one can add the stretch that begins at FIRST. The first one to do so is
right; the other is told (`OvertakenError`) and goes on behind it.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from onehull.errors import ArtifactError
from onehull.files import add_directory, sync
from onehull.spec.section import Section

EVENTS_FILE, QUARANTINE_FILE, BOOKS_FILE = "events.jsonl", "quarantine.jsonl", "segment.json"
EVENTS_GLOB = f"*/*/[0-9]*/{EVENTS_FILE}"
"""Pattern of the event files in the directory that `ingest` writes to, for ``data.events`` of a spec."""

_BUILDING, _REMOVED = ".building-", ".removed-"
_DIGITS = 20
_OTHERS_WERE_HERE = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}
"""The place is taken, or what was built was cleaned away."""


class OvertakenError(Exception):
    """Another process has added a segment with this beginning, or has begun to own the chain."""


class SegmentBooks(Section):
    """What a segment holds: every place of its stretch counts as event, quarantined or absent."""

    first: int
    """Place of its first message in the stream (Kafka: offset)."""
    next: int
    """Place that the next segment begins with."""
    stream: str = ""
    """Identity of the stream, where the broker gives it one: a topic that is made anew has another."""
    events: int
    """Lines of ``events.jsonl``."""
    quarantined: dict[str, int]
    """Refused messages by reason."""
    repeated: int = 0
    """Deliveries of messages that it held already (Pub/Sub delivers again); they take no place."""
    absent: int = 0
    """Places of the stretch that the broker had no message for: compacted, deleted, or marks of transactions."""
    kinds: dict[str, int]
    """Events by kind."""
    earliest: float | None
    """Time of the earliest event, seconds since 1970."""
    latest: float | None
    written: datetime
    """When the segment was written, by this machine's clock."""


class SegmentChain:
    """Consecutive segments of one partition.

    Args:
        directory: of the partition; made when the first segment is added.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def segments(self, after: int = -1) -> Iterator[Path]:
        """Directories of the segments that begin behind a place, in order."""
        for first in sorted(self._places()):
            if first > after:
                yield self._segment(first)

    def last(self) -> SegmentBooks | None:
        """Books of the last segment; None where there is none.

        Raises:
            ArtifactError: they are damaged.
        """
        last = max(self._places(), default=None)
        return read_books(self._segment(last)) if last is not None else None

    def append(self, books: SegmentBooks, files: Mapping[str, Iterable[bytes]]) -> Path:
        """Adds a segment; it is on the disk, whole, when this returns.

        Args:
            books: of the segment.
            files: content by name, in pieces.

        Raises:
            OvertakenError: a segment with this beginning is there, or another process has called `clean`.
            ArtifactError: the disk is full or gone; no segment was added.
        """
        place = self._segment(books.first)
        building = self.directory / f"{_BUILDING}{os.getpid()}-{uuid.uuid4().hex}"
        content = {**files, BOOKS_FILE: (books.model_dump_json(indent=1).encode(), b"\n")}
        try:
            _make_durably(self.directory)
            building.mkdir()
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            for name, pieces in content.items():
                with (building / name).open("wb") as file:
                    file.writelines(pieces)
            add_directory(building, place)
        except OSError as error:
            if error.errno in _OTHERS_WERE_HERE:
                raise OvertakenError(str(place)) from error
            raise self._unwritable(error) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return place

    def clean(self) -> None:
        """Removes what killed processes have left half-built. One that lives is told that it was overtaken."""
        for path in self.directory.glob(f"{_BUILDING}*"):
            with suppress(OSError):  # its builder has moved it into its place, or removed it
                # One step, like the builder's: what is moved away whole cannot be moved into its place in part.
                path.rename(path.with_name(path.name.replace(_BUILDING, _REMOVED)))
        for path in self.directory.glob(f"{_REMOVED}*"):
            shutil.rmtree(path, ignore_errors=True)

    def _places(self) -> list[int]:
        with suppress(FileNotFoundError, NotADirectoryError):
            return [int(path.name) for path in self.directory.iterdir() if path.name.isdecimal()]
        return []

    def _unwritable(self, error: OSError) -> ArtifactError:
        remedy = "Remedy that and start again: it continues behind the last whole segment."
        return ArtifactError(f"{self.directory} cannot be written: {error.strerror}. {remedy}")

    def _segment(self, first: int) -> Path:
        return self.directory / f"{first:0{_DIGITS}d}"


def read_books(segment: Path) -> SegmentBooks:
    """The books of a segment.

    Raises:
        ArtifactError: they are absent or damaged.
    """
    path = segment / BOOKS_FILE
    try:
        return SegmentBooks.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        remedy = "Restore the directory; without it the place in the stream is not known."
        raise ArtifactError(f"{path} cannot be read: {error}. {remedy}") from error


def _make_durably(directory: Path) -> None:
    """Makes a directory and those above it; their names, too, survive a power cut."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync(path.parent)
