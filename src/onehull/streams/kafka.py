"""Apache Kafka → segments: each message counted once, whatever is killed, and whenever.

The place in the stream is the end of the partition's last segment, and nothing else: the offsets that are committed to
the broker are for monitors of lag. So a process that starts, or is handed a partition, continues exactly behind what is
durable; what a killed one had in memory is read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from onehull.errors import BrokerError
from onehull.streams.draft import Draft
from onehull.streams.ingest import Ingest, Options, Partition, partition_name
from onehull.streams.kafka_places import GivenUpError, KafkaPlaces, TopicGoneError
from onehull.streams.kafka_sink import KafkaSink
from onehull.streams.settings import QUIET, checked, confluent_kafka

_BATCH = 10_000
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0
_FETCHING = {"queued.min.messages": 1_000_000, "fetch.queue.backoff.ms": 10}
"""The client's own values let it sleep for a second whenever 100,000 messages of a partition wait in it."""


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


class KafkaIngest(Ingest):
    """Reads topics into segments.

    Args:
        topics: what is read.
        out: where segments go.
        **options: see `onehull.streams.ingest.Options`.

    Raises:
        MissingPartError: confluent-kafka is not installed.
        SpecError: a setting does not suit the client.
        BrokerError: no broker answers, or a topic is absent.
    """

    def __init__(self, topics: KafkaTopics, out: Path, **options: Unpack[Options]) -> None:
        super().__init__(out, **options)
        self._kafka = confluent_kafka()
        self._topics = topics
        self._at_end: set[Partition] = set()
        self._member = False
        self._fatal: Exception | None = None
        common = {**QUIET, **(topics.settings or {}), "bootstrap.servers": topics.servers, "error_cb": self._on_error}
        self._consumer = checked(self._kafka.Consumer, {**_FETCHING, **common, **self._consumer_settings()})
        self._places = KafkaPlaces(self._consumer, common, out, topics.start, self._note, self._told_to_stop)
        self._places.check_topics([*topics.topics, *([topics.quarantine] if topics.quarantine else [])])
        if topics.quarantine:
            self._refused = KafkaSink(topics.servers, topics.settings, _PATIENCE_SECONDS), topics.quarantine

    def _consumer_settings(self) -> dict[str, Any]:
        return {
            "group.id": self._topics.group,
            "enable.auto.commit": False,
            # A place that the broker does not have is no matter for a default: see `_message_error`.
            "auto.offset.reset": "error",
            "enable.partition.eof": self._topics.stop_at_end,
            # Partitions are handed over whole: each holder commits before it lets go.
            "partition.assignment.strategy": "roundrobin",
        }

    def _begin(self) -> None:
        topics = list(self._topics.topics)
        self._consumer.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    def _end(self) -> None:
        self._consumer.close()

    def _finished(self) -> bool:
        """A process that got no partition has nothing to wait for."""
        return self._topics.stop_at_end and self._member and self._at_end >= self._drafts.keys()

    def _read(self) -> None:
        messages = self._consumer.consume(_BATCH, timeout=_POLL_SECONDS)
        if self._fatal is not None:
            raise self._fatal
        now = self._clock.now()
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
        part = (message.topic(), message.partition())
        codes = self._kafka.KafkaError
        if error.code() == codes._PARTITION_EOF:
            self._at_end.add(part)
        elif error.code() == codes._AUTO_OFFSET_RESET and part in self._drafts:
            self._commit(part)
            self._go_on(part)
        elif error.code() == codes.UNKNOWN_TOPIC_OR_PART:
            self._check_topics()
        else:
            self._on_error(error)

    def _on_error(self, error: Any) -> None:
        if error.fatal():
            self._fatal = BrokerError(f"{self._topics.servers}: {error.str()}")
        else:
            self._note(f"{error.str()}; it is tried again", about=error.code())

    def _commit_all(self) -> None:
        self._check_topics()
        super()._commit_all()

    def _check_topics(self) -> None:
        try:
            self._places.check_identities(self._drafts)
        except TopicGoneError:
            super()._commit_all()  # what was read is all that is left of it
            raise

    def _committed(self, part: Partition, draft: Draft) -> None:
        place = self._kafka.TopicPartition(*part, draft.next)
        try:
            self._consumer.commit(offsets=[place], asynchronous=True)
        except self._kafka.KafkaException as error:
            self._note(f"{error.args[0].str()}: monitors of the group's lag are behind; the data are not")

    def _overtaken(self, part: Partition) -> None:
        self._go_on(part)

    def _go_on(self, part: Partition) -> None:
        """Reads a partition from the end of what is durable on."""
        self._at_end.discard(part)
        try:
            self._drafts |= self._places.drafts([part])
        except GivenUpError:
            self._drafts.pop(part, None)  # it ends; whoever gets the partition next will ask
            return
        try:
            self._consumer.seek(self._kafka.TopicPartition(*part, self._drafts[part].next))
        except self._kafka.KafkaException as error:
            self._note(f"{error.args[0].str()}; the partition is on its way to another process")

    def _assigned(self, consumer: Any, partitions: Sequence[Any]) -> None:
        try:
            parts = [(given.topic, given.partition) for given in partitions]
            for part in parts:
                self._clean(part)
            self._drafts |= self._places.drafts(parts)
            for given, part in zip(partitions, parts, strict=True):
                given.offset = self._drafts[part].next
            consumer.assign(partitions)
            self._member = True
            self.metrics.reads(len(self._drafts))
        except GivenUpError:
            self._drafts.clear()  # it ends; whoever gets the partitions next will ask
        except Exception as error:  # a callback of the client must not raise: `_read` does
            self._fatal = error

    def _clean(self, part: Partition) -> None:
        chain = self._chain(part)
        chain.clean()
        if (last := chain.last()) is not None:
            self._clock.not_before(last.written.timestamp())

    def _revoked(self, _: Any, partitions: Sequence[Any]) -> None:
        parts = [(given.topic, given.partition) for given in partitions]
        held = [part for part in parts if part in self._drafts]
        try:
            self._check_topics()
            for part in held:
                self._commit(part)
        except Exception as error:  # a callback of the client must not raise: `_read` does
            self._fatal = error
        self._lost(_, partitions)

    def _lost(self, _: Any, partitions: Sequence[Any]) -> None:
        self._member = False
        for given in partitions:
            part = (given.topic, given.partition)
            self._drafts.pop(part, None)
            self._at_end.discard(part)
            self.metrics.released(partition_name(part))
        self.metrics.reads(len(self._drafts))

    def _tell_lag(self) -> None:
        self._check_topics()
        for part, draft in self._drafts.items():
            _, high = self._consumer.get_watermark_offsets(self._kafka.TopicPartition(*part), cached=True)
            if high >= 0:  # negative where nothing was fetched yet
                self.metrics.lag(partition_name(part), max(0, high - draft.next))
