"""What the service tells of what it serves and of what comes of it: one schema, whatever carries it away.

Lines are those of `onehull.spec.events`, so that assembly reads them: the loop closes here. `EventLog` writes them to
files, `BrokerEvents` hands them to Apache Kafka or Google Pub/Sub.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from onehull.serve.context import POSITION
from onehull.serve.requests import FeedbackEvent, RankRequest
from onehull.serve.response import RankResponse
from onehull.spec.events import IMPRESSION


class EventLine(NamedTuple):
    """One event.

    Attributes:
        impression: that it is, or is about.
        line: the event as JSON, without an end of line.
    """

    impression: str
    line: bytes


class Events(ABC):
    """Where events go."""

    @abstractmethod
    def impressions(self, request: RankRequest, response: RankResponse, now: datetime | None = None) -> None:
        """Takes what was served; a crash of the service loses none that the carrier has.

        Raises:
            OSError: the disk is full or gone; nothing of these lines is in the log.
            BrokerError: the broker is behind; some of them may be there.
        """

    @abstractmethod
    def feedback(self, events: Iterable[FeedbackEvent], now: datetime | None = None) -> None:
        """Takes feedback, and waits until it is durable.

        Raises:
            OSError: the disk is full or gone; nothing of these events is in the log.
            BrokerError: the broker has not confirmed them in time; some may be there, or come to be.
        """

    @abstractmethod
    def fault(self) -> str | None:
        """Why what was taken may not be there, in words; None where all is well."""

    @abstractmethod
    def close(self) -> None:
        """Brings to safety what was taken, and ends."""


def impression_lines(request: RankRequest, response: RankResponse, now: datetime) -> list[EventLine]:
    """What was served."""
    version = f"{response.model['name']}/{response.model['version']}"
    return [
        _line(
            item.impression,
            {
                "event": IMPRESSION,
                "id": item.impression,
                "time": _iso(now),
                "user": request.user,
                "item": item.id,
                "context": {**request.context, POSITION: item.rank - 1},
                "request": response.request,
                "model": version,
                "score": item.score,
            },
        )
        for item in response.items
        if item.impression is not None
    ]


def feedback_lines(events: Iterable[FeedbackEvent], now: datetime) -> list[EventLine]:
    """What came of it; an event without a time came now."""
    lines = []
    for event in events:
        fields = {**event.model_dump(exclude_none=True), "time": _iso(event.time or now)}
        lines.append(_line(event.impression, fields))
    return lines


def moment(now: datetime | None) -> datetime:
    """The moment, by default this one."""
    return now or datetime.now(UTC)


def _line(impression: str, fields: Mapping[str, Any]) -> EventLine:
    return EventLine(impression, json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
