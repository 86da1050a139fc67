"""Epochs: directories that hold samples which have left, what is still open, and how far the log has been read.

``STREAM/NUMBER/`` with ``samples-*.parquet``, ``impressions.parquet`` and ``feedback.parquet`` (what is open),
``quarantine.jsonl`` and ``epoch.json`` (`EpochBooks`). An epoch is built beside its place and moved there by one
rename: samples and place become durable together, and a process that is killed continues with the last whole epoch.
What was open is kept of the last one only.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from onehull.errors import ArtifactError
from onehull.events.stream.inputs import Place
from onehull.files import sync
from onehull.spec.section import Section

IMPRESSIONS_FILE, FEEDBACK_FILE = "impressions.parquet", "feedback.parquet"
QUARANTINE_FILE, SAMPLES_GLOB = "quarantine.jsonl", "samples-*.parquet"
_BOOKS_FILE = "epoch.json"
_BUILDING = ".building"


class EpochBooks(Section):
    """Totals of the stream up to an epoch's end."""

    made_for: str
    """Fingerprint of what the spec says of samples."""
    places: dict[str, Place]
    """How far each source has been read."""
    closed: int
    """Impressions up to this moment have left, microseconds since 1970."""
    latest: int
    """Latest time of any event, microseconds since 1970."""
    lines: int
    blank: int
    unused: dict[str, int]
    quarantined: dict[str, int]
    joined: dict[str, int]
    """Fields of `onehull.events.join.JoinCounts` of what has left."""
    feedback_by_kind: dict[str, int]


class Epochs:
    """The epochs of one stream.

    Args:
        directory: made when the first epoch is begun.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def all(self) -> list[Path]:
        """Directories of the epochs, in order."""
        found = self.directory.iterdir() if self.directory.is_dir() else []
        return sorted((path for path in found if path.name.isdecimal()), key=lambda path: int(path.name))

    def last(self) -> tuple[Path, EpochBooks] | None:
        """The last epoch and its books; None where there is none.

        Raises:
            ArtifactError: it is damaged.
        """
        epochs = self.all()
        if not epochs:
            return None
        path = epochs[-1] / _BOOKS_FILE
        try:
            return epochs[-1], EpochBooks.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}. Restore it, or begin anew with --force.") from error

    def begin(self) -> Path:
        """An empty directory for the next epoch."""
        building = self.directory / _BUILDING
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        return building

    def commit(self, building: Path, books: EpochBooks) -> Path:
        """Puts a finished epoch in its place; it is on the disk when this returns."""
        (building / _BOOKS_FILE).write_text(books.model_dump_json(indent=1) + "\n", encoding="utf-8")
        for file in building.iterdir():
            sync(file)
        sync(building)
        before = self.all()
        place = self.directory / f"{int(before[-1].name) + 1 if before else 0:08d}"
        building.rename(place)
        sync(self.directory)
        for old in before[-1:]:
            for name in (IMPRESSIONS_FILE, FEEDBACK_FILE):
                (old / name).unlink(missing_ok=True)
        return place

    def samples(self, last: Path) -> Iterator[Path]:
        """Files of the samples that have left up to the end of an epoch, in order."""
        for epoch in self._until(last):
            yield from sorted(epoch.glob(SAMPLES_GLOB))

    def quarantines(self, last: Path) -> Iterator[Path]:
        """Files of the rejected lines up to the end of an epoch, in order."""
        for epoch in self._until(last):
            yield epoch / QUARANTINE_FILE

    def _until(self, last: Path) -> Iterator[Path]:
        return (epoch for epoch in self.all() if int(epoch.name) <= int(last.name))
