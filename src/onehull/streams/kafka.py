"""Apache Kafka → segments: each message counted once, whatever is killed, and whenever.

The place in the stream is the end of the partition's last segment, and nothing else: the offsets that are committed to
the broker are for monitors of lag. So a process that starts, or is handed a partition, continues exactly behind what is
durable; what a killed one had in memory is read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from onehull.errors import BrokerError, suggest
from onehull.streams.admission import Admission, Limits
from onehull.streams.draft import Draft, quarantine_entry
from onehull.streams.metrics import IngestMetrics
from onehull.streams.segments import OvertakenError, SegmentChain
from onehull.streams.settings import checked, confluent_kafka

_START_SECONDS = 20
_BATCH = 10_000
_POLL_SECONDS = 0.2
_LAG_SECONDS = 5.0
_LOG_CRITICAL = 2
"""What is less than critical reaches the operator by `KafkaIngest`'s notes, once."""

Partition = tuple[str, int]


@dataclass(frozen=True)
class Roll:
    """When drafts become segments: whichever comes first."""

    bytes: int = 64 << 20
    """Of all drafts of the process together: what it holds in memory."""
    seconds: float = 10.0


@dataclass(frozen=True)
class KafkaTopics:
    """What is read.

    Attributes:
        servers: ``host:port``, several separated by commas.
        topics: names.
        group: processes of one group share the partitions.
        start: where a partition without segments begins.
        stop_at_end: end when every partition has been read to its end, instead of waiting for more.
        settings: pass through to the client.
        quarantine: topic that refused messages are sent to, besides the quarantine file of the segment.
    """

    servers: str
    topics: Sequence[str]
    group: str = "onehull"
    start: Literal["earliest", "latest"] = "earliest"
    stop_at_end: bool = False
    settings: Mapping[str, str] | None = None
    quarantine: str | None = None


class KafkaIngest:
    """Reads topics into segments.

    Args:
        topics: what is read.
        out: where segments go.
        limits: what a message may be.
        roll: when segments are made.
        metrics: told what becomes durable.
        note: told in words what an operator should know.

    Raises:
        MissingPartError: confluent-kafka is not installed.
        SpecError: a setting does not suit the client.
        BrokerError: no broker answers, or a topic is absent.
    """

    def __init__(
        self,
        topics: KafkaTopics,
        out: Path,
        *,
        limits: Limits | None = None,
        roll: Roll | None = None,
        metrics: IngestMetrics | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self._kafka = confluent_kafka()
        self._topics = topics
        self._out = out
        self._admission = Admission(limits or Limits())
        self._roll = roll or Roll()
        self.metrics = metrics or IngestMetrics()
        self._note = note or (lambda _: None)
        self._drafts: dict[Partition, Draft] = {}
        self._at_end: set[Partition] = set()
        self._rolled = self._lag_told = time.monotonic()
        self._member = False
        self._fatal: Exception | None = None
        given = {"log_level": _LOG_CRITICAL, **(topics.settings or {})}
        common = {**given, "bootstrap.servers": topics.servers, "error_cb": self._on_error}
        self._consumer = checked(self._kafka.Consumer, {**common, **self._consumer_settings()})
        self._quarantine = checked(self._kafka.Producer, {**common, "acks": "all"}) if topics.quarantine else None
        self._check_topics()

    def run(self, stop: Callable[[], bool]) -> None:
        """Reads until it is told to stop, or to the end; what was read is durable when this returns.

        Args:
            stop: asked several times a second.

        Raises:
            BrokerError: the topic was deleted and made anew, or the broker refuses.
            ArtifactError: a segment's books are damaged.
            OSError: the disk is full or gone; what was durable before is intact.
        """
        self._consumer.subscribe(
            list(self._topics.topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        try:
            while not stop() and not self._finished():
                self._take(self._consumer.consume(_BATCH, timeout=_POLL_SECONDS))
                if self._fatal is not None:
                    raise self._fatal
                if self._due():
                    self._commit_all()
                self._tell_lag()
            self._commit_all()
        finally:
            self._drafts.clear()  # after an error nothing may be committed while the partitions are given back
            self._consumer.close()

    def _consumer_settings(self) -> dict[str, Any]:
        return {
            "group.id": self._topics.group,
            "enable.auto.commit": False,
            "auto.offset.reset": self._topics.start,
            "enable.partition.eof": self._topics.stop_at_end,
            # Partitions are handed over whole: each holder commits before it lets go.
            "partition.assignment.strategy": "roundrobin",
        }

    def _check_topics(self) -> None:
        try:
            known = self._consumer.list_topics(timeout=_START_SECONDS).topics
        except self._kafka.KafkaException as error:
            reason = error.args[0].str()
            remedy = "Start it, or correct --kafka and the SASL and TLS settings."
            raise BrokerError(f"no Kafka broker answers at {self._topics.servers}: {reason}. {remedy}") from error
        wanted = [*self._topics.topics, *([self._topics.quarantine] if self._topics.quarantine else [])]
        for topic in wanted:
            if topic not in known:
                names = sorted(name for name in known if not name.startswith("__"))
                raise BrokerError(f"{self._topics.servers} has no topic {topic!r}. {suggest(topic, names)}")

    def _take(self, messages: Sequence[Any]) -> None:
        now = time.time()
        for message in messages:
            if (error := message.error()) is not None:
                self._message_error(message, error)
                continue
            part = (message.topic(), message.partition())
            draft = self._drafts.get(part)
            if draft is None:
                continue  # of a partition that has gone to another process meanwhile
            self._at_end.discard(part)
            draft.add(message.offset(), message.value(), self._admission, now)

    def _message_error(self, message: Any, error: Any) -> None:
        if error.code() == self._kafka.KafkaError._PARTITION_EOF:
            self._at_end.add((message.topic(), message.partition()))
        elif error.code() == self._kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise BrokerError(f"{self._topics.servers}: {error.str()}. The topic was deleted; create it again.")
        else:
            self._note(f"{error.str()}; it is tried again")

    def _on_error(self, error: Any) -> None:
        if error.fatal():
            self._fatal = BrokerError(f"{self._topics.servers}: {error.str()}")
        else:
            self._note(f"{error.str()}; it is tried again")

    def _finished(self) -> bool:
        """A process that got no partition has nothing to wait for."""
        return self._topics.stop_at_end and self._member and self._at_end >= self._drafts.keys()

    def _due(self) -> bool:
        held = sum(draft.size for draft in self._drafts.values())
        return held >= self._roll.bytes or time.monotonic() - self._rolled >= self._roll.seconds

    def _commit_all(self) -> None:
        self._rolled = time.monotonic()
        for part in list(self._drafts):
            self._commit(part)

    def _commit(self, part: Partition) -> None:
        draft = self._drafts[part]
        if not draft.messages:
            return
        self._send_refused(draft)
        try:
            draft.append_to(self._chain(part))
        except OvertakenError:
            self.metrics.overtaken(_name(part))
            self._note(f"another process added to {_name(part)} first; going on behind it")
            start = self._start(part)
            self._drafts[part] = Draft(_name(part), start.offset, start.offset)
            self._at_end.discard(part)
            self._seek(start)
            return
        self.metrics.committed(_name(part), draft.books())
        self._drafts[part] = Draft(_name(part), draft.next, draft.next)
        self._tell_group(part, draft.next)

    def _seek(self, start: Any) -> None:
        try:
            self._consumer.seek(start)
        except self._kafka.KafkaException as error:
            self._note(f"{error.args[0].str()}; the partition is on its way to another process")

    def _tell_group(self, part: Partition, offset: int) -> None:
        place = self._kafka.TopicPartition(*part, offset)
        try:
            self._consumer.commit(offsets=[place], asynchronous=True)
        except self._kafka.KafkaException as error:
            self._note(f"{error.args[0].str()}: monitors of the group's lag are behind; the data are not")

    def _send_refused(self, draft: Draft) -> None:
        """At least once: a process that is killed between this and the segment sends them again, with the same key."""
        if self._quarantine is None or not draft.refused:
            return
        for one in draft.refused:
            headers = {"reason": one.refusal.reason, "detail": one.refusal.detail}
            key = f"{draft.source}/{one.place}"
            self._quarantine.produce(self._topics.quarantine, quarantine_entry(draft.source, one), key, headers=headers)
        if self._quarantine.flush(_START_SECONDS):
            raise BrokerError(f"{self._topics.servers}: refused messages cannot be sent to {self._topics.quarantine!r}")

    def _assigned(self, consumer: Any, partitions: Sequence[Any]) -> None:
        try:
            for given in partitions:
                part = (given.topic, given.partition)
                self._chain(part).clean()
                start = self._start(part)
                given.offset = start.offset
                self._drafts[part] = Draft(_name(part), start.offset, start.offset)
            consumer.assign(partitions)
            self._member = True
        except Exception as error:  # a callback of the client must not raise: `run` does
            self._fatal = error

    def _start(self, part: Partition) -> Any:
        """Where a partition continues."""
        low, high = self._consumer.get_watermark_offsets(self._kafka.TopicPartition(*part), timeout=_START_SECONDS)
        last = self._chain(part).last()
        if last is None:
            return self._kafka.TopicPartition(*part, low if self._topics.start == "earliest" else high)
        if last.next > high:
            rule = f"{_name(part)} ends at {high}, and {self._chain(part).directory} holds it up to {last.next}"
            raise BrokerError(f"{rule}: the topic was made anew. Read it into another directory.")
        if last.next < low:
            gone = f"{low - last.next:,} messages of {_name(part)} ({last.next} to {low - 1})"
            self._note(f"{gone} were deleted by the broker before they were read")
        return self._kafka.TopicPartition(*part, last.next)

    def _revoked(self, _: Any, partitions: Sequence[Any]) -> None:
        self._member = False
        try:
            for given in partitions:
                part = (given.topic, given.partition)
                if part in self._drafts:
                    self._commit(part)
                self._forget(part)
        except Exception as error:  # a callback of the client must not raise: `run` does
            self._fatal = error

    def _lost(self, _: Any, partitions: Sequence[Any]) -> None:
        self._member = False
        for given in partitions:
            self._forget((given.topic, given.partition))

    def _forget(self, part: Partition) -> None:
        self._drafts.pop(part, None)
        self._at_end.discard(part)
        self.metrics.released(_name(part))

    def _tell_lag(self) -> None:
        if time.monotonic() - self._lag_told < _LAG_SECONDS:
            return
        self._lag_told = time.monotonic()
        for part, draft in self._drafts.items():
            _, high = self._consumer.get_watermark_offsets(self._kafka.TopicPartition(*part), cached=True)
            self.metrics.lag(_name(part), max(0, high - draft.next))

    def _chain(self, part: Partition) -> SegmentChain:
        return SegmentChain(self._out / part[0] / str(part[1]))


def _name(part: Partition) -> str:
    return f"{part[0]}/{part[1]}"
