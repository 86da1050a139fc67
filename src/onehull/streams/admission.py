"""Which messages become lines of a segment: what any reader of an event log needs, whatever the spec."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from onehull.events.lines import UNREADABLE
from onehull.events.times import LAST_SECOND, seconds_since_1970

Reason = Literal["empty", "too_big", "malformed", "wrong_type", "time_out_of_range", "from_future"]
"""Why a message is refused: no content (a tombstone); more bytes than allowed; not one JSON object in UTF-8; ``event``
is no text or ``time`` no moment; a time outside 1970 … 9999 (often a wrong unit); a time ahead of this machine's
clock."""


class Refusal(NamedTuple):
    """A broken rule, and the same in words."""

    reason: Reason
    detail: str


class _Envelope(msgspec.Struct, gc=False):
    event: str
    time: datetime | float


@dataclass(frozen=True)
class Limits:
    """What a message may be.

    Attributes:
        max_bytes: of one message.
        max_ahead: how far its time may be ahead of this machine's clock. An event from the future would make
            assembly believe that all earlier windows have closed.
    """

    max_bytes: int = 1 << 20
    max_ahead: timedelta = timedelta(hours=1)


@dataclass
class Admitted:
    """What was seen of the admitted messages.

    Attributes:
        kinds: number of events of each kind.
        earliest: seconds since 1970; infinite where there is none.
        latest: seconds since 1970; minus infinity where there is none.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    earliest: float = float("inf")
    latest: float = float("-inf")


class Admission:
    """Admits or refuses messages.

    Args:
        limits: what a message may be.
    """

    def __init__(self, limits: Limits) -> None:
        self._max_bytes = limits.max_bytes
        self._ahead = limits.max_ahead.total_seconds()
        self._decode = msgspec.json.Decoder(_Envelope).decode

    def line(self, message: bytes | None, now: float, seen: Admitted) -> bytes | Refusal:
        """A message as one line without its end, or why there is none.

        Args:
            message: content of the message.
            now: seconds since 1970 on this machine's clock.
            seen: is told of an admitted message.
        """
        if not message:
            return Refusal("empty", "a message must hold one JSON object")
        if len(message) > self._max_bytes:
            rule = f"a message must have at most {self._max_bytes:,} bytes"
            return Refusal("too_big", f"{rule}. Received {len(message):,}")
        try:
            event = self._decode(message)
            line = _one_line(message)
        except msgspec.ValidationError as error:
            return Refusal("wrong_type", str(error))
        except UNREADABLE as error:
            return Refusal("malformed", str(error))
        seconds = seconds_since_1970(event.time)
        broken = self._broken_time(event.time, seconds, now)
        if broken is not None:
            return broken
        seen.kinds[event.event] += 1
        seen.earliest = min(seen.earliest, seconds)
        seen.latest = max(seen.latest, seconds)
        return line

    def _broken_time(self, time: datetime | float, seconds: float, now: float) -> Refusal | None:
        if not 0 <= seconds < LAST_SECOND:
            return Refusal("time_out_of_range", f"time {time} is not between 1970 and 9999")
        if seconds > now + self._ahead:
            ahead = timedelta(seconds=round(seconds - now))
            return Refusal("from_future", f"time {time} is {ahead} ahead of this machine's clock")
        return None


def _one_line(message: bytes) -> bytes:
    """The message without line breaks, which a pretty-printed object has between its fields; UTF-8 for certain."""
    if not message.isascii():
        message.decode("utf-8")
    return message if b"\n" not in message and b"\r" not in message else msgspec.json.format(message, indent=-1)
