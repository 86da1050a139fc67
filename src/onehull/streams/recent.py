"""Which messages are durable already, where a broker delivers some of them again and gives them no places."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta

from onehull.errors import ArtifactError
from onehull.streams.segments import SegmentBooks, SegmentChain, read_books

IDS_FILE = "ids.txt"
"""Ids of all messages of a segment, one a line."""


class RecentIds:
    """Ids in the latest segments of a chain; about 100 bytes each.

    Args:
        chain: the chain.
        window: segments that were written so long before the last one are remembered. The clock that counts is the
            chain's: while nobody reads, nothing is forgotten.
    """

    def __init__(self, chain: SegmentChain, window: timedelta) -> None:
        self._chain = chain
        self._window = window
        self._known: set[str] = set()
        self._segments: deque[tuple[datetime, list[str]]] = deque()
        self._last: SegmentBooks | None = None

    def __contains__(self, message: str) -> bool:
        return message in self._known

    @property
    def last(self) -> SegmentBooks | None:
        """Books of the last segment that is known; None where there is none."""
        return self._last

    def refresh(self) -> None:
        """Learns what others have added.

        Raises:
            ArtifactError: a segment is damaged.
        """
        known = self._last.first if self._last is not None else -1
        found: list[tuple[SegmentBooks, list[str]]] = []
        for segment in reversed(list(self._chain.segments(after=known))):
            books = read_books(segment)
            if found and books.written < found[0][0].written - self._window:
                break
            path = segment / IDS_FILE
            try:
                found.append((books, path.read_text(encoding="utf-8").split()))
            except OSError as error:
                remedy = "Restore it; without it, messages that are delivered again would count twice."
                raise ArtifactError(f"{path} cannot be read: {error.strerror}. {remedy}") from error
        for books, ids in reversed(found):
            self.add(books, ids)

    def add(self, books: SegmentBooks, ids: Iterable[str]) -> None:
        """A segment was added; what is older than the window is forgotten."""
        self._last = books
        self._segments.append((books.written, list(ids)))
        self._known.update(self._segments[-1][1])
        while self._segments[0][0] < books.written - self._window:
            self._known.difference_update(self._segments.popleft()[1])
