"""One user's attributes while a request waits: a read with a deadline, and a breaker for a store that is gone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

from onehull.errors import ArtifactError
from onehull.store.connect import connect, online_address
from onehull.store.views import FROM_US, KEY

Outcome = Literal["found", "stale", "missing", "failed", "skipped"]
"""``stale``: found, and older than the spec allows. ``failed``: the store did not answer in time. ``skipped``: it was
not asked, because it has failed lately."""
OUTCOMES: tuple[Outcome, ...] = ("found", "stale", "missing", "failed", "skipped")

_FIRST_SECONDS = 5.0
_NOBODY = "nobody"
"""Who is asked for to see whether the store answers."""

_logger = logging.getLogger("onehull.store")


@dataclass(frozen=True)
class UserRead:
    """What a read gave."""

    outcome: Outcome
    values: Mapping[str, Any] = field(default_factory=dict)
    """Raw value of each feature, where the outcome is ``found`` or ``stale``."""
    age_seconds: float | None = None
    """How long ago the values began to count."""

    @property
    def known(self) -> bool:
        """Whether there are values."""
        return self.outcome in {"found", "stale"}


class StoredUsers:
    """Reads users from a repository's online store.

    Reads run in a thread of their own, so that nothing below (a name that does not resolve, retries of a client, a
    locked file) holds a request longer than the deadline. After a failure no request waits: the thread tries again by
    itself, and requests are let through when it was answered in time.

    Args:
        directory: the repository.
        features: the features to read.
        deadline_ms: how long a request waits.
        stale_after_s: values that count from longer ago are stale. Default: never.
        pause_s: time between two trials of a store that has failed.

    Raises:
        MissingPartError: Feast is not installed.
        ArtifactError: there is no repository, or it lacks a feature. A store that does not answer is none: see `fault`.
    """

    def __init__(
        self,
        directory: Path,
        features: Sequence[str],
        *,
        deadline_ms: float = 50.0,
        stale_after_s: float | None = None,
        pause_s: float = 1.0,
    ) -> None:
        self.directory = directory
        self.address = online_address(directory)
        self.fault: str | None = None
        """Why the store is not asked; None while it answers."""
        self._features = tuple(features)
        self._deadline_ms, self._pause_s, self._stale_after_s = deadline_ms, pause_s, stale_after_s
        self._feast = connect(directory)
        self._references = self._checked()
        self._reads: SimpleQueue[_Read | None] = SimpleQueue()
        # A daemon: a read that hangs does not keep the process.
        threading.Thread(target=self._run, name="feature store", daemon=True).start()
        # The first read pays for the connection and the registry; no request should.
        first = self._submit(_NOBODY)
        if not first.done.wait(_FIRST_SECONDS):
            self._fail("no answer")

    def read(self, user: str) -> UserRead:
        """Reads a user: in time, or not at all."""
        if self.fault is not None:
            return UserRead("skipped")
        read = self._submit(user)
        if not read.done.wait(self._deadline_ms / 1000):
            self._fail(f"no answer within {self._deadline_ms:g} ms")
            return UserRead("failed")
        return UserRead("failed") if read.error is not None else self._judged(read.values)

    def close(self) -> None:
        """Lets the reading thread end."""
        self._reads.put(None)

    def _checked(self) -> list[str]:
        views = [view for view in self._feast.list_feature_views() if view.name == "user"]
        stored = {field.name for view in views for field in view.schema}
        absent = [name for name in self._features if name not in stored]
        if absent:
            remedy = "Apply the spec that the bundle was made from: onehull features apply SPEC"
            raise ArtifactError(f"{self.directory} lacks features that the bundle reads: {', '.join(absent)}. {remedy}")
        return [f"user:{name}" for name in (FROM_US, *self._features)]

    def _judged(self, values: Mapping[str, Any]) -> UserRead:
        since_us = values[FROM_US]
        if since_us is None or since_us < 0:
            return UserRead("missing")
        age = max(0.0, time.time() - since_us / 1e6)
        stale = self._stale_after_s is not None and age > self._stale_after_s
        return UserRead("stale" if stale else "found", {name: values[name] for name in self._features}, age)

    def _submit(self, user: str) -> _Read:
        read = _Read(user)
        self._reads.put(read)
        return read

    def _fail(self, reason: str) -> None:
        _logger.warning("feature store: %s: %s", self.address, reason)
        self.fault = f"{self.address}: {reason}"

    def _run(self) -> None:
        """The thread: requests' reads in their order, and trials while the store is at fault."""
        while True:
            try:
                read = self._reads.get(timeout=self._pause_s)
            except Empty:
                if self.fault is None:
                    continue
                read = _Read(_NOBODY)
            if read is None:
                return
            seconds = self._answer(read)
            if self.fault is not None and read.error is None and seconds * 1000 <= self._deadline_ms:
                self.fault = None
                _logger.warning("feature store: %s answers again", self.address)
            read.done.set()

    def _answer(self, read: _Read) -> float:
        """Does a read; returns the seconds that it took."""
        start = time.monotonic()
        try:
            found = self._feast.get_online_features(features=self._references, entity_rows=[{KEY: read.user}])
            read.values = {name: values[0] for name, values in found.to_dict().items()}
        except Exception as error:
            read.error = error
            if self.fault is None:
                self._fail(f"{type(error).__name__}: {error}")
        return time.monotonic() - start


class _Read:
    """One read on its way."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.done = threading.Event()
        self.values: dict[str, Any] = {}
        self.error: Exception | None = None
