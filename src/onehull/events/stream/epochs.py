"""Epochs: directories that hold the samples which have left, what is still open, and how far the log has been read.

``STREAM/NUMBER/`` with ``samples-*.parquet``, ``quarantine-*.jsonl`` (rejected lines), ``impressions.parquet`` and
``feedback.parquet`` (what is open) and ``epoch.json`` (`EpochBooks`). An epoch is built beside its place and moved
there by one rename: samples and place become durable together, and a process that is killed continues with the last
whole one.

The last epoch holds everything: the files of the one before are linked into it, small ones made into one now and then,
so that their number grows with the data and not with the time. The one before stays for whoever is reading it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from onehull.errors import ArtifactError
from onehull.events.stream.inputs import Place
from onehull.files import add_directory
from onehull.spec.section import Section

IMPRESSIONS_FILE, FEEDBACK_FILE = "impressions.parquet", "feedback.parquet"
_BOOKS_FILE = "epoch.json"
_BUILDING = ".building"
_SAMPLES, _QUARANTINE = "samples-*.parquet", "quarantine-*.jsonl"
_SMALL_BYTES, _SMALL_FILES = 64 << 20, 32
"""So many files smaller than this are made into one."""


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

    def begin(self) -> NewEpoch:
        """An empty directory for the next epoch."""
        building = self.directory / _BUILDING
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        epochs = self.all()
        return NewEpoch(building, int(epochs[-1].name) + 1 if epochs else 0)

    def commit(self, epoch: NewEpoch, books: EpochBooks) -> Path:
        """Puts a finished epoch in its place; it is on the disk when this returns."""
        before, building = self.all(), epoch.directory
        if before:
            link_files(before[-1], building)
        _merge_small(sample_files(building), _merge_tables)
        _merge_small(quarantine_files(building), _merge_lines)
        (building / _BOOKS_FILE).write_text(books.model_dump_json(indent=1) + "\n", encoding="utf-8")
        place = self.directory / f"{epoch.number:08d}"
        add_directory(building, place)
        for old in before[:-1]:
            shutil.rmtree(old, ignore_errors=True)
        return place


@dataclass
class NewEpoch:
    """An epoch that is being built.

    Attributes:
        directory: of its files.
        number: its place in the stream.
    """

    directory: Path
    number: int
    _parts: int = 0

    def next_samples(self) -> Path:
        """A new file for samples; files sort in the order in which they were asked for."""
        self._parts += 1
        return self.directory / f"samples-{self.number:08d}-{self._parts:04d}.parquet"

    @property
    def quarantine(self) -> Path:
        """The file of its rejected lines."""
        return self.directory / f"quarantine-{self.number:08d}.jsonl"


def sample_files(epoch: Path) -> list[Path]:
    """Files of all samples that have left by the end of an epoch, in order."""
    return sorted(epoch.glob(_SAMPLES))


def quarantine_files(epoch: Path) -> list[Path]:
    """Files of all lines that were rejected by the end of an epoch, in order."""
    return sorted(epoch.glob(_QUARANTINE))


def link_files(epoch: Path, directory: Path) -> None:
    """Gives the samples and the rejected lines of an epoch a second place, which stays when the epoch goes.

    Raises:
        FileNotFoundError: it has gone.
    """
    for file in (*sample_files(epoch), *quarantine_files(epoch)):
        try:
            os.link(file, directory / file.name)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without links
            shutil.copy2(file, directory / file.name)


def _merge_small(files: list[Path], merge: Callable[[list[Path], Path], None]) -> None:
    """Makes the small files at the end into one, under the name of the first of them."""
    small: list[Path] = []
    for file in reversed(files):
        if file.stat().st_size >= _SMALL_BYTES:
            break
        small.insert(0, file)
    if len(small) <= _SMALL_FILES:
        return
    whole = small[0].with_name(f".{small[0].name}.whole")
    merge(small, whole)
    for file in small:
        file.unlink()
    whole.rename(small[0])


def _merge_tables(files: list[Path], whole: Path) -> None:
    pl.scan_parquet(files).sink_parquet(whole, compression="lz4")


def _merge_lines(files: list[Path], whole: Path) -> None:
    with whole.open("wb") as target:
        for file in files:
            with file.open("rb") as source:
                shutil.copyfileobj(source, target)
