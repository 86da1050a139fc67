"""What readers of every broker have in common: drafts of their partitions, and when these become segments."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack, final

from onehull.streams.admission import Admission, Limits
from onehull.streams.draft import Draft, quarantine_entry
from onehull.streams.metrics import IngestMetrics
from onehull.streams.segments import OvertakenError, SegmentChain
from onehull.streams.sinks import Message, Sink

_LAG_SECONDS = 2.0
_SAME_NOTE_SECONDS = 30.0
_SENT_TOGETHER = 10_000

Partition = tuple[str, int]


def partition_name(part: Partition) -> str:
    """As notes, metrics and the quarantine say it."""
    return f"{part[0]}/{part[1]}"


@dataclass(frozen=True)
class Roll:
    """When drafts become segments: whichever comes first."""

    bytes: int = 64 << 20
    """Of all drafts of the process together: what it holds in memory."""
    seconds: float = 10.0


class Notes:
    """Tells an operator what happens, the same thing once in a while: clients repeat it several times a second.

    Args:
        tell: is given the words.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told: dict[object, float] = {}

    def __call__(self, text: str, about: object = None) -> None:
        """Tells it, unless it was told less than half a minute ago.

        Args:
            text: words.
            about: what makes it the same thing where the words differ; default: the words.
        """
        now, key = time.monotonic(), text if about is None else about
        if now - self._told.get(key, float("-inf")) >= _SAME_NOTE_SECONDS:
            self._told[key] = now
            self._tell(text)


class Clock:
    """This machine's clock, which never goes back: a correction must not make the present look like the future."""

    def __init__(self) -> None:
        self._latest = 0.0

    def now(self) -> float:
        """Seconds since 1970."""
        self._latest = max(self._latest, time.time())
        return self._latest

    def not_before(self, seconds: float) -> None:
        """It was at least so late once."""
        self._latest = max(self._latest, seconds)


class Options(TypedDict, total=False):
    """How a reader reads, whatever the broker."""

    limits: Limits | None
    """What a message may be."""
    roll: Roll | None
    """When segments are made."""
    metrics: IngestMetrics | None
    """Told what becomes durable."""
    note: Callable[[str], None] | None
    """Told in words what an operator should know."""


class Ingest(ABC):
    """Reads a broker into segments.

    Args:
        out: where segments go.
        **options: see `Options`.

    A subclass sets `_refused` to a sink and a topic, where refused messages go to a topic, too.
    """

    def __init__(self, out: Path, **options: Unpack[Options]) -> None:
        self._out = out
        self._admission = Admission(options.get("limits") or Limits())
        self._roll = options.get("roll") or Roll()
        self.metrics = options.get("metrics") or IngestMetrics()
        self._note = Notes(options.get("note") or (lambda _: None))
        self._clock = Clock()
        self._drafts: dict[Partition, Draft] = {}
        self._refused: tuple[Sink, str] | None = None
        self._rolled = self._lag_told = time.monotonic()
        self._stop: Callable[[], bool] = lambda: False

    @final
    def run(self, stop: Callable[[], bool]) -> None:
        """Reads until it is told to stop, or to the end; what was read is durable when this returns.

        Args:
            stop: asked several times a second.

        Raises:
            BrokerError: the broker refuses, or what it holds is not what was read before.
            ArtifactError: a segment's books are damaged, or the disk is full or gone; what was durable before is
                intact.
        """
        self._stop = stop
        try:
            self._begin()
            while not stop() and not self._finished():
                self._read()
                if self._due():
                    self._commit_all()
                if time.monotonic() - self._lag_told >= _LAG_SECONDS:
                    self._lag_told = time.monotonic()
                    self._tell_lag()
            self._commit_all()
        finally:
            self._drafts.clear()  # after an error nothing may be committed while the client is closed
            self._end()
            if self._refused is not None:
                self._refused[0].close()

    @abstractmethod
    def _begin(self) -> None:
        """Joins those who read."""

    @abstractmethod
    def _read(self) -> None:
        """Adds some messages to drafts; waits a fraction of a second for the first."""

    @abstractmethod
    def _finished(self) -> bool:
        """Whether everything has been read, where that was asked for."""

    @abstractmethod
    def _tell_lag(self) -> None:
        """Tells metrics how much waits."""

    @abstractmethod
    def _committed(self, part: Partition, draft: Draft) -> None:
        """Tells the broker that a draft is durable."""

    @abstractmethod
    def _overtaken(self, part: Partition) -> None:
        """Puts a draft in the place of one that another process was faster with."""

    @abstractmethod
    def _end(self) -> None:
        """Leaves."""

    def _told_to_stop(self) -> bool:
        return self._stop()

    def _extra_files(self, _: Draft) -> dict[str, bytes]:
        """What a segment holds besides events and quarantine."""
        return {}

    def _due(self) -> bool:
        held = sum(draft.size for draft in self._drafts.values())
        return held >= self._roll.bytes or time.monotonic() - self._rolled >= self._roll.seconds

    def _commit_all(self) -> None:
        self._rolled = time.monotonic()
        for part in list(self._drafts):
            self._commit(part)

    def _commit(self, part: Partition) -> None:
        """Makes a draft durable; a process that was overtaken tries again with what is left for it."""
        while (draft := self._drafts.get(part)) is not None and draft.messages:
            if self._refused is not None:
                self._send_refused(*self._refused, draft)
            try:
                books = draft.append_to(self._chain(part), self._extra_files(draft))
            except OvertakenError:
                self.metrics.overtaken(partition_name(part))
                self._note(f"another process added to {partition_name(part)} first; going on behind it")
                self._overtaken(part)
                continue
            self.metrics.committed(partition_name(part), books)
            self._drafts[part] = draft.following()
            self._committed(part, draft)

    def _send_refused(self, sink: Sink, topic: str, draft: Draft) -> None:
        """At least once: a process that is killed between this and the segment sends them again, with the same key."""
        for begin in range(0, len(draft.refused), _SENT_TOGETHER):
            for one in draft.refused[begin : begin + _SENT_TOGETHER]:
                attributes = {"reason": one.refusal.reason, "detail": one.refusal.detail}
                key = f"{draft.source}/{one.place}"
                sink.post(topic, Message(quarantine_entry(draft.source, one), key, attributes))
            sink.settle()

    def _chain(self, part: Partition) -> SegmentChain:
        return SegmentChain(self._out / part[0] / str(part[1]))
