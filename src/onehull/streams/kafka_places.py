"""Where the partitions of Kafka's topics continue: behind what is durable, where the broker still has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from onehull.errors import BrokerError, suggest
from onehull.streams.draft import Draft
from onehull.streams.ingest import Notes, Partition, partition_name
from onehull.streams.segments import OvertakenError, SegmentBooks, SegmentChain
from onehull.streams.settings import checked, confluent_kafka

_ANSWER_SECONDS = 20
_TRY_SECONDS = 5
"""Of one try, where there will be others."""
_SHORT_SECONDS = 1.0
_PATIENCE_SECONDS = 60
_NO_IDENTITY = "AAAAAAAAAAAAAAAAAAAAAA"
"""Of a topic whose broker gives none (before Kafka 2.8)."""


class TopicGoneError(BrokerError):
    """A topic was deleted."""


class GivenUpError(Exception):
    """The process was told to stop while it waited for the broker."""


class KafkaPlaces:
    """Compares the segments of partitions with what the broker holds.

    Args:
        consumer: asked for the first and the last offset of partitions.
        settings: of the client that is asked for topics.
        out: where segments go.
        start: where a partition without segments begins.
        note: told in words what an operator should know.
        stopped: whether the process has been told to stop: then it waits no longer for a broker that is away.
    """

    def __init__(
        self,
        consumer: Any,
        settings: Mapping[str, Any],
        out: Path,
        start: Literal["earliest", "latest"],
        note: Notes,
        stopped: Callable[[], bool],
    ) -> None:
        from confluent_kafka.admin import AdminClient

        self._kafka = confluent_kafka()
        self._heard = ""
        self._consumer = consumer
        self._admin = checked(AdminClient, {**settings, "error_cb": self._hear})
        self._servers = settings["bootstrap.servers"]
        self._out = out
        self._start = start
        self._note = note
        self._stopped = stopped

    def check_topics(self, wanted: Sequence[str]) -> None:
        """Asks the broker for topics.

        Raises:
            BrokerError: none answers, or it does not have one of them.
        """
        try:
            known = self._admin.list_topics(timeout=_ANSWER_SECONDS).topics
        except self._kafka.KafkaException as error:
            remedy = "Start it, or correct --kafka and the SASL and TLS settings."
            self._admin.poll(0)  # hears why, which the answer itself does not say
            reason = self._heard or error.args[0].str()
            raise BrokerError(f"no Kafka broker answers at {self._servers}: {reason}. {remedy}") from error
        for topic in wanted:
            if topic not in known:
                names = sorted(name for name in known if not name.startswith("__"))
                raise BrokerError(f"{self._servers} has no topic {topic!r}. {suggest(topic, names)}")

    def drafts(self, parts: Sequence[Partition]) -> dict[Partition, Draft]:
        """Empty drafts at the places where partitions continue.

        Raises:
            BrokerError: the broker does not answer, or a topic was deleted or made anew.
            GivenUpError: the process was told to stop meanwhile.
            ArtifactError: a segment's books are damaged, or the disk is full.
        """
        identities = self._patiently(lambda: self._identities({topic for topic, _ in parts}))
        return {part: self._draft(part, identities[part[0]]) for part in parts}

    def check_identities(self, drafts: Mapping[Partition, Draft]) -> None:
        """Asks whether topics are still those that drafts were read from; no answer is no reason to wait.

        The client itself goes on at the same offset of a topic that was made anew.

        Raises:
            TopicGoneError: one was deleted.
            BrokerError: one was made anew.
        """
        known = {topic: draft.stream for (topic, _), draft in drafts.items()}
        try:
            found = self._identities(set(known), _SHORT_SECONDS) if known else {}
        except TimeoutError:
            return
        except self._kafka.KafkaException as error:
            if error.args[0].code() == self._kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise self._deleted(error) from error
            return
        for topic, identity in found.items():
            if known[topic] and identity and identity != known[topic]:
                remedy = "Read it into another directory."
                raise BrokerError(f"{topic} was made anew at {self._servers} while it was read. {remedy}")

    def _draft(self, part: Partition, identity: str) -> Draft:
        chain = SegmentChain(self._out / part[0] / str(part[1]))
        last = chain.last() or self._origin(chain, part, identity)
        # Asked after that: the broker has whatever another process has made durable until then.
        low, high = self._ends(part)
        if (last.stream and identity and last.stream != identity) or last.next > high:
            rule = f"{part[0]} was made anew: {chain.directory} holds offsets up to {last.next} of the one before"
            raise BrokerError(f"{rule}, {self._servers} has {low} to {high}. Read it into another directory.")
        if last.next < low:
            gone = f"{low - last.next:,} messages of {partition_name(part)} ({last.next} to {low - 1})"
            self._note(f"{gone} were deleted by the broker before they were read")
        offset = max(low, last.next)
        return Draft(partition_name(part), last.next, offset, identity, absent=offset - last.next)

    def _ends(self, part: Partition) -> tuple[int, int]:
        """The first offset that the broker has, and the one behind its last."""
        place = self._kafka.TopicPartition(*part)
        low, high = self._patiently(lambda: self._consumer.get_watermark_offsets(place, timeout=_TRY_SECONDS))
        return low, high

    def _origin(self, chain: SegmentChain, part: Partition, identity: str) -> SegmentBooks:
        """What a chain begins with: a segment without messages, which says where reading began.

        It lies at 0, as all first segments do, so that of two processes which see the broker at different moments
        only one decides. And the next process continues there, though not one message may have come meanwhile.
        """
        offset = self._ends(part)[0 if self._start == "earliest" else 1]
        draft = Draft(partition_name(part), 0, offset, identity, absent=offset)
        if offset == 0:
            return draft.books()  # the first segment will lie at 0 itself
        try:
            return draft.append_to(chain)
        except OvertakenError:
            return chain.last() or self._origin(chain, part, identity)

    def _identities(self, topics: set[str], seconds: float = _TRY_SECONDS) -> dict[str, str]:
        answers = self._admin.describe_topics(self._kafka.TopicCollection(sorted(topics)))
        identities = {}
        for topic, answer in answers.items():
            identity = str(answer.result(seconds).topic_id)
            identities[topic] = identity if identity != _NO_IDENTITY else ""
        return identities

    def _hear(self, error: Any) -> None:
        if error.code() != self._kafka.KafkaError._ALL_BROKERS_DOWN:  # the consequence, not the reason
            self._heard = error.str()

    def _deleted(self, error: Any) -> TopicGoneError:
        return TopicGoneError(f"{self._servers}: {error.args[0].str()}. The topic was deleted; create it again.")

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """A broker may be on its way back."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return ask()
            except TimeoutError as error:
                reason, about, cause = "no answer", None, error
            except self._kafka.KafkaException as error:
                kind = error.args[0]
                if kind.code() == self._kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise self._deleted(error) from error
                reason, about, cause = kind.str(), kind.code(), error
            if self._stopped():
                raise GivenUpError(reason) from cause
            if time.monotonic() > end:
                raise BrokerError(f"{self._servers}: {reason}, for {_PATIENCE_SECONDS} seconds") from cause
            self._note(f"{reason}; it is tried again", about=about)
            time.sleep(0.5)
