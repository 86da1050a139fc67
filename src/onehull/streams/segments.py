"""Segments: directories that hold a stretch of one partition and the place where the next stretch begins.

``OUT/TOPIC/PARTITION/FIRST/`` with ``events.jsonl`` (one event a line), ``quarantine.jsonl`` (what was refused, with
the reason) and ``segment.json`` (`SegmentBooks`). A segment is built beside its place, brought to the disk, and moved
there by one rename. The file system refuses to move a directory over one that is not empty, so that of two processes
which both believe to own a partition only one can add the stretch that begins at FIRST. The first one to do so is
right; the other is told (`OvertakenError`) and goes on behind it.
"""

from __future__ import annotations

import errno
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from onehull.errors import ArtifactError
from onehull.files import sync
from onehull.spec.section import Section

EVENTS_FILE, QUARANTINE_FILE, BOOKS_FILE = "events.jsonl", "quarantine.jsonl", "segment.json"
EVENTS_GLOB = f"*/*/[0-9]*/{EVENTS_FILE}"
"""Pattern of the event files in the directory that `ingest` writes to, for ``data.events`` of a spec."""

_BUILDING = ".building-"
_DIGITS = 20


class OvertakenError(Exception):
    """Another process has added a segment with this beginning."""


class SegmentBooks(Section):
    """What a segment holds: every message of its stretch, in exactly one count."""

    first: int
    """Place of its first message in the stream (Kafka: offset)."""
    next: int
    """Place that the next segment begins with."""
    events: int
    """Lines of ``events.jsonl``."""
    quarantined: dict[str, int]
    """Refused messages by reason."""
    repeated: int = 0
    """Messages that an earlier segment holds already (Pub/Sub delivers again)."""
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
        with_names = self.directory.glob("[0-9]*") if self.directory.is_dir() else []
        yield from sorted(path for path in with_names if int(path.name) > after)

    def last(self) -> SegmentBooks | None:
        """The books of the last segment; None where there is none.

        Raises:
            ArtifactError: they are damaged.
        """
        last = max(self.segments(), default=None)
        return read_books(last) if last is not None else None

    def append(self, books: SegmentBooks, files: Mapping[str, Iterable[bytes]]) -> Path:
        """Adds a segment; it is on the disk, whole, when this returns.

        Args:
            books: of the segment.
            files: content by name, in pieces.

        Raises:
            OvertakenError: a segment with this beginning is there.
            OSError: the disk is full or gone; no segment was added.
        """
        place = self.directory / f"{books.first:0{_DIGITS}d}"
        building = self.directory / f"{_BUILDING}{uuid.uuid4().hex}"
        building.mkdir(parents=True)
        try:
            content = {**files, BOOKS_FILE: (books.model_dump_json(indent=1).encode(), b"\n")}
            for name, pieces in content.items():
                _write_durably(building / name, pieces)
            sync(building)
            building.rename(place)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                raise OvertakenError(str(place)) from error
            raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
        sync(self.directory)
        return place

    def clean(self) -> None:
        """Removes what killed processes have left half-built. A living one's is refused then, and it builds anew."""
        for path in self.directory.glob(f"{_BUILDING}*"):
            shutil.rmtree(path, ignore_errors=True)


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


def _write_durably(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(pieces)
    sync(path)
