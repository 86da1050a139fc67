"""Events of the service to a broker, in place of a directory.

``kafka://HOST:PORT/TOPIC`` and ``pubsub://PROJECT/TOPIC``; two topics separated by a comma part impressions from
feedback. Feedback is with the broker, durably, before the client hears 202. Impressions wait in memory for a broker
that is away, for five minutes and up to 64 MB, because a feed must not wait for it; those that are lost are counted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from onehull.errors import BrokerError, Fault, SpecError
from onehull.serve.event_log import EventLog
from onehull.serve.events import EventLine, Events, feedback_lines, impression_lines, moment
from onehull.serve.requests import FeedbackEvent, RankRequest
from onehull.serve.response import RankResponse
from onehull.streams.kafka_sink import KafkaSink
from onehull.streams.pubsub_sink import PubSubSink
from onehull.streams.sinks import Message, Sink

_logger = logging.getLogger("onehull.serve")

WAIT_SECONDS = 5.0
"""How long a client waits for the broker to take its feedback."""
_PATIENCE_SECONDS = 300.0
_LEAVING_SECONDS = 10.0
_PLACE = re.compile(r"(kafka|pubsub)://([^/?#@]+)/([\w.~+%-]+)(?:,([\w.~+%-]+))?")


def open_events(place: str | Path, on_loss: Callable[[], None], settings: Mapping[str, str] | None = None) -> Events:
    """What carries events to a place.

    Args:
        place: a directory, ``kafka://HOST:PORT/TOPIC`` or ``pubsub://PROJECT/TOPIC``; two topics separated by a comma
            are for impressions and feedback. Several brokers of Kafka are separated by commas.
        on_loss: called for each impression that the broker did not take, from another thread.
        settings: pass through to the client of Kafka.

    Raises:
        SpecError: the place is none of these, or a setting does not suit the client.
        ArtifactError: the directory cannot be written, or another service writes to it.
        BrokerError: the broker answers, and has no such topic.
        MissingPartError: the broker's client is not installed.
    """
    if isinstance(place, Path) or "://" not in place:
        return EventLog(Path(place))
    found = _PLACE.fullmatch(place)
    if found is None:
        rule = "must be a directory, kafka://HOST:PORT/TOPIC or pubsub://PROJECT/TOPIC"
        remedy = "Passwords belong in the file that --kafka-config names."
        raise SpecError([Fault("--events", rule, remedy=remedy, has_value=False)], "command line")
    kind, address, impressions, feedback = found.groups()

    def sink(seconds: float, on_failure: Callable[[str], None] | None = None) -> Sink:
        if kind == "kafka":
            return KafkaSink(address, settings, seconds, on_failure)
        return PubSubSink(address, seconds, on_failure)

    return BrokerEvents(sink(WAIT_SECONDS), sink(_PATIENCE_SECONDS, lambda _: on_loss()), impressions, feedback)


class BrokerEvents(Events):
    """Hands events to a broker; see the head of this file.

    Args:
        urgent: for feedback: gives up while the client still waits.
        patient: for impressions.
        impressions: topic.
        feedback: topic; default: that of impressions.

    Raises:
        BrokerError: the broker answers, and has no such topic. One that does not answer may come back.
    """

    def __init__(self, urgent: Sink, patient: Sink, impressions: str, feedback: str | None = None) -> None:
        self._urgent, self._patient = urgent, patient
        self._impressions, self._feedback = impressions, feedback or impressions
        try:
            self._urgent.hear(self._urgent.check(sorted({self._impressions, self._feedback})))
        except BrokerError:
            self._end()
            raise

    def impressions(self, request: RankRequest, response: RankResponse, now: datetime | None = None) -> None:
        """See `Events.impressions`."""
        for message in _messages(impression_lines(request, response, moment(now))):
            self._patient.post(self._impressions, message)

    def feedback(self, events: Iterable[FeedbackEvent], now: datetime | None = None) -> None:
        """See `Events.feedback`."""
        self._urgent.send(self._feedback, _messages(feedback_lines(events, moment(now))))

    def fault(self) -> str | None:
        """See `Events.fault`: what was heard last of the broker."""
        return max(self._urgent, self._patient, key=lambda sink: sink.heard).fault

    def close(self) -> None:
        """See `Events.close`."""
        try:
            self._patient.settle(_LEAVING_SECONDS)
        except BrokerError as error:
            _logger.error("impressions are lost: %s", error)
        finally:
            self._end()

    def _end(self) -> None:
        self._urgent.close()
        self._patient.close()


def _messages(lines: Sequence[EventLine]) -> list[Message]:
    """The key keeps an impression and its feedback in one partition, in order."""
    return [Message(line, impression) for impression, line in lines]
