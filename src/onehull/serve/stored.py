"""The ranking service on a feature store: what answers say of it, and the items of now in memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import polars as pl

from onehull.errors import OneHullError
from onehull.export import Bundle
from onehull.store import StoredUsers, UserRead
from onehull.store.connect import ITEMS

_logger = logging.getLogger("onehull.serve")
_DAY_SECONDS = 86_400


def open_stored_users(bundle: Bundle, directory: Path) -> StoredUsers | None:
    """Reads the attributes that a bundle wants of its users; None where it wants none but the id.

    Args:
        bundle: the bundle.
        directory: the feature repository.

    Raises:
        MissingPartError: Feast is not installed.
        ArtifactError: there is no repository, or it lacks a feature.
    """
    spec = bundle.spec
    wanted = [name for name in bundle.manifest.user_features if (spec.features[name].column or name) != spec.data.user]
    limit = spec.store.stale_after
    if not wanted:
        return None
    return StoredUsers(directory, wanted, stale_after_s=limit.total_seconds() if limit is not None else None)


def store_note(read: UserRead, *, in_bundle: bool) -> list[str]:
    """What an answer says of a read; nothing where it found what it should.

    Args:
        read: what the store said.
        in_bundle: the bundle knows the user, so that its attributes stand in for what the store did not give.
    """
    if read.outcome == "found":
        return []
    if read.outcome == "stale":
        days = (read.age_seconds or 0.0) / _DAY_SECONDS
        return [f"This user's attributes are stale: they are {days:.1f} days old."]
    why = "does not know this user" if read.outcome == "missing" else "does not answer"
    then = "are those of the bundle" if in_bundle else "count as missing"
    return [f"The feature store {why}: their attributes {then}."]


class ItemRefresh:
    """Hands on the repository's table of items whenever it has changed, from a thread of its own.

    Args:
        directory: the feature repository.
        take: is given each table, and when it was written (seconds since 1970); what it raises is a fault, and the
            items in use stay.
        every_s: time between two looks.
    """

    def __init__(self, directory: Path, take: Callable[[pl.DataFrame, float], None], every_s: float = 10.0) -> None:
        self.path = directory / ITEMS
        self.fault: str | None = None
        """Why the latest table is not in use; None while it is."""
        self._take, self._every_s = take, every_s
        self._state: tuple[int, int, int] | None = None
        self._end = threading.Event()
        self.look()
        self._thread = threading.Thread(target=self._run, name="items", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Takes the table if it has changed."""
        try:
            found = self.path.stat()
            state = (found.st_ino, found.st_size, found.st_mtime_ns)
            if state != self._state:
                self._take(pl.read_parquet(self.path), found.st_mtime)
                self._state, self.fault = state, None
        except FileNotFoundError:
            self._fail(f"{self.path} is missing: make it with onehull features materialize")
        except (OSError, pl.exceptions.PolarsError, OneHullError) as error:
            self._fail(f"{self.path} cannot be used: {error}")

    def close(self) -> None:
        """Ends the thread."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._every_s):
            self.look()

    def _fail(self, reason: str) -> None:
        if reason != self.fault:
            _logger.warning("items: %s", reason)
        self.fault = reason
