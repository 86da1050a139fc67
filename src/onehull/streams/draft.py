"""A stretch of one partition in memory, before it becomes a segment."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from onehull.events.quarantine import shown
from onehull.streams.admission import Admission, Admitted, Refusal
from onehull.streams.segments import EVENTS_FILE, QUARANTINE_FILE, SegmentBooks, SegmentChain

_KEPT_BYTES = 1024
"""Of a refused message; the quarantine shows less. A message of 50 MB must not wait in memory to be shown."""
_OBJECT_BYTES = 100
"""Of a message besides its content: a draft of empty messages fills memory, too."""


@dataclass(frozen=True)
class Refused:
    """A message that no line was made of."""

    place: int
    refusal: Refusal
    raw: bytes


@dataclass
class Draft:
    """Messages of one partition, in order.

    Attributes:
        source: topic and partition, or subscription; stands in the quarantine.
        first: place of its first message.
        next: place that comes after its last one.
        stream: identity of the stream, where the broker gives it one.
        size: bytes of memory, about.
    """

    source: str
    first: int
    next: int
    stream: str = ""
    lines: list[bytes] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    seen: Admitted = field(default_factory=Admitted)
    size: int = 0
    absent: int = 0
    repeated: int = 0

    @property
    def messages(self) -> int:
        """Messages that it holds."""
        return len(self.lines) + len(self.refused)

    def following(self) -> Draft:
        """An empty one behind it."""
        return Draft(self.source, self.next, self.next, self.stream)

    def add(self, place: int, message: bytes | None, admission: Admission, now: float) -> None:
        """Adds a message; one that lies before the end of the draft is there already and is left out."""
        if place < self.next:
            return
        self.absent += place - self.next
        self.next = place + 1
        line = admission.line(message, now, self.seen)
        if isinstance(line, Refusal):
            self.refused.append(Refused(place, line, (message or b"")[:_KEPT_BYTES]))
            self.size += _KEPT_BYTES
        else:
            self.lines.append(line)
            self.size += len(line) + _OBJECT_BYTES

    def append_to(self, chain: SegmentChain, extra: dict[str, bytes] | None = None) -> SegmentBooks:
        """Makes it the next segment of a chain and returns what it holds; see `SegmentChain.append`."""
        books = self.books()
        files = {EVENTS_FILE: _lines(self.lines), QUARANTINE_FILE: self._quarantine()}
        chain.append(books, {**files, **{name: (data,) for name, data in (extra or {}).items()}})
        return books

    def books(self) -> SegmentBooks:
        """What it holds."""
        return SegmentBooks(
            first=self.first,
            next=self.next,
            stream=self.stream,
            events=len(self.lines),
            quarantined=dict(Counter(refused.refusal.reason for refused in self.refused)),
            repeated=self.repeated,
            absent=self.absent,
            kinds=dict(sorted(self.seen.kinds.items())),
            earliest=_known(self.seen.earliest),
            latest=_known(self.seen.latest),
            written=datetime.fromtimestamp(time.time(), UTC),
        )

    def _quarantine(self) -> Iterator[bytes]:
        for one in self.refused:
            yield quarantine_entry(self.source, one) + b"\n"


def quarantine_entry(source: str, one: Refused) -> bytes:
    """A refused message as one JSON object."""
    reason, detail = one.refusal
    entry = {"source": source, "place": one.place, "reason": reason, "detail": detail, "raw": shown(one.raw)}
    return msgspec.json.encode(entry)


def _lines(lines: list[bytes]) -> tuple[bytes, ...]:
    return (b"\n".join(lines), b"\n") if lines else ()


def _known(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None
