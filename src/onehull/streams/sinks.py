"""Events → brokers: either the caller waits until the broker has them, or hears of those that it never got."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, final

from onehull.errors import BrokerError, suggest
from onehull.streams.settings import QUIET, checked, confluent_kafka, google_pubsub

_MARGIN_SECONDS = 2.0
"""A client says a little later than its own limit that it gives up."""
_CHECK_SECONDS = 5
_POLL_SECONDS = 0.1
_HELD_BYTES, _HELD_MESSAGES = 64 << 20, 100_000
_HOLDING = {
    "linger.ms": 5,  # lines wait a little for each other, and a caller not long
    "queue.buffering.max.kbytes": _HELD_BYTES >> 10,
    "queue.buffering.max.messages": _HELD_MESSAGES,
}


class Message(NamedTuple):
    """What a broker is given.

    Attributes:
        value: content.
        key: messages of one key stay in order.
        attributes: text beside the content.
    """

    value: bytes
    key: str
    attributes: Mapping[str, str] = {}


Told = Callable[[str | None], None]
"""Hears None when the broker has a message durably, or why it has not got it."""


class Sink(ABC):
    """Hands messages to a broker.

    Args:
        wait_seconds: how long the broker may take for a message.
        on_failure: hears why a posted message was lost; called from another thread.

    Attributes:
        fault: why the latest message was not taken; None after one that was.
        heard: when that was, by the monotonic clock.
    """

    def __init__(self, wait_seconds: float, on_failure: Callable[[str], None] | None = None) -> None:
        self._wait_seconds = wait_seconds
        self._on_failure = on_failure or (lambda _: None)
        self._changed = threading.Condition()
        self._outstanding = 0
        self._lost: list[str] = []
        self.fault: str | None = None
        self.heard = 0.0

    @final
    def send(self, topic: str, messages: Sequence[Message]) -> None:
        """Returns when the broker has all of them durably.

        Raises:
            BrokerError: it has not confirmed all of them in time. Some may be there all the same, or come to be:
                what is sent again needs an id by which a reader knows it.
        """
        waiting = _Waiting(len(messages))
        for message in messages:
            self._hand_over(topic, message, waiting.told)
        fault = waiting.fault(self._wait_seconds + _MARGIN_SECONDS)
        self.hear(fault)
        if fault is not None:
            raise BrokerError(fault)

    @final
    def post(self, topic: str, message: Message) -> None:
        """Returns at once; what becomes of it is told to `on_failure` and `settle`.

        Raises:
            BrokerError: too many wait already.
        """
        with self._changed:
            self._outstanding += 1
        try:
            self._hand_over(topic, message, self._told)
        except BrokerError:
            with self._changed:
                self._outstanding -= 1
            raise

    @final
    def settle(self, seconds: float | None = None) -> None:
        """Returns when the broker has durably what was posted.

        Args:
            seconds: how long to wait; default: as long as a message may take.

        Raises:
            BrokerError: it has not got all of it.
        """
        limit = self._wait_seconds + _MARGIN_SECONDS if seconds is None else seconds
        with self._changed:
            done = self._changed.wait_for(lambda: not self._outstanding, limit)
            lost, self._lost = self._lost, []
            if lost:
                raise BrokerError(f"{len(lost):,} messages were not taken: {lost[0]}")
            if not done:
                raise BrokerError(f"{self._outstanding:,} messages were not taken within {limit:g} seconds")

    @abstractmethod
    def check(self, topics: Sequence[str]) -> str | None:
        """Why nothing can be sent now, in words; None where it can.

        Raises:
            BrokerError: the broker answers, and does not have a topic.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends; what has not been taken by then is lost, see `settle`."""

    @abstractmethod
    def _hand_over(self, topic: str, message: Message, told: Told) -> None:
        """Gives a message to the client, which calls `told` from another thread.

        Raises:
            BrokerError: it holds too many already.
        """

    def hear(self, fault: str | None) -> None:
        """Remembers how it is with the broker."""
        self.fault, self.heard = fault, time.monotonic()

    def _told(self, fault: str | None) -> None:
        self.hear(fault)
        with self._changed:
            self._outstanding -= 1
            if fault is not None:
                self._lost = [*self._lost[-999:], fault]
            self._changed.notify_all()
        if fault is not None:
            self._on_failure(fault)


class _Waiting:
    """Somebody waits for some messages."""

    def __init__(self, messages: int) -> None:
        self._changed = threading.Condition()
        self._left = messages
        self._fault: str | None = None

    def told(self, fault: str | None) -> None:
        with self._changed:
            self._left -= 1
            self._fault = self._fault or fault
            self._changed.notify_all()

    def fault(self, seconds: float) -> str | None:
        """Why the broker does not have all of them; None where it has."""
        with self._changed:
            done = self._changed.wait_for(lambda: not self._left or self._fault is not None, seconds)
            return self._fault if done else f"the broker did not answer within {seconds:g} seconds"


class KafkaSink(Sink):
    """Apache Kafka, by an idempotent producer: a message is in all replicas in sync before it counts as taken.

    Args:
        servers: ``host:port``, several separated by commas.
        settings: pass through to the client.
        wait_seconds: how long the broker may take for a message.
        on_failure: hears why a posted message was lost; called from another thread.

    Raises:
        MissingPartError: confluent-kafka is not installed.
        SpecError: a setting does not suit the client.
    """

    def __init__(
        self,
        servers: str,
        settings: Mapping[str, str] | None = None,
        wait_seconds: float = 5.0,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(wait_seconds, on_failure)
        self._kafka = confluent_kafka()
        self._servers = servers
        ours = {
            "bootstrap.servers": servers,
            "acks": "all",
            "enable.idempotence": True,
            "message.timeout.ms": round(wait_seconds * 1000),
        }
        self._producer = checked(self._kafka.Producer, {**QUIET, **_HOLDING, **(settings or {}), **ours})
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="kafka-deliveries", daemon=True)
        self._thread.start()

    def check(self, topics: Sequence[str]) -> str | None:
        """See `Sink.check`."""
        try:
            known = self._producer.list_topics(timeout=_CHECK_SECONDS).topics
        except self._kafka.KafkaException as error:
            return f"no Kafka broker answers at {self._servers}: {error.args[0].str()}"
        for topic in topics:
            if topic not in known:
                names = sorted(name for name in known if not name.startswith("__"))
                raise BrokerError(f"{self._servers} has no topic {topic!r}. {suggest(topic, names)}")
        return None

    def close(self) -> None:
        """See `Sink.close`."""
        self._closed.set()
        self._thread.join()
        self._producer.purge()
        self._producer.poll(0)  # what was purged is told to be lost

    def _hand_over(self, topic: str, message: Message, told: Told) -> None:
        def delivered(error: Any, _: Any) -> None:
            told(error.str() if error is not None else None)

        value, key, attributes = message
        try:
            self._producer.produce(topic, value, key, headers=dict(attributes) or None, on_delivery=delivered)
        except BufferError as error:
            raise BrokerError(f"{len(self._producer):,} messages wait for {self._servers} already") from error
        except self._kafka.KafkaException as error:
            raise BrokerError(f"{self._servers}: {error.args[0].str()}") from error

    def _listen(self) -> None:
        while not self._closed.is_set():
            self._producer.poll(_POLL_SECONDS)


class PubSubSink(Sink):
    """Google Pub/Sub.

    Args:
        project: of the topics.
        wait_seconds: how long the service may take for a message.
        on_failure: hears why a posted message was lost; called from another thread.

    Raises:
        MissingPartError: google-cloud-pubsub is not installed.
        BrokerError: no credentials are found.
    """

    def __init__(
        self, project: str, wait_seconds: float = 5.0, on_failure: Callable[[str], None] | None = None
    ) -> None:
        super().__init__(wait_seconds, on_failure)
        self._pubsub = google_pubsub()
        self._project = project
        from google.api_core.retry import Retry
        from google.auth.exceptions import DefaultCredentialsError

        types = self._pubsub.types
        flow = types.PublishFlowControl(
            message_limit=_HELD_MESSAGES,
            byte_limit=_HELD_BYTES,
            limit_exceeded_behavior=types.LimitExceededBehavior.ERROR,
        )
        try:
            self._client = self._pubsub.PublisherClient(
                publisher_options=types.PublisherOptions(flow_control=flow, retry=Retry(timeout=wait_seconds))
            )
        except DefaultCredentialsError as error:
            raise BrokerError(f"Google Pub/Sub, project {project}: {error}") from error

    def check(self, topics: Sequence[str]) -> str | None:
        """See `Sink.check`."""
        from google.api_core.exceptions import GoogleAPIError, NotFound

        for topic in topics:
            try:
                self._client.get_topic(topic=self._path(topic), timeout=_CHECK_SECONDS, retry=None)
            except NotFound as error:
                raise BrokerError(f"{self._path(topic)} is absent. Create it, or name another.") from error
            except GoogleAPIError as error:
                return f"Google Pub/Sub does not answer: {error}"
        return None

    def close(self) -> None:
        """See `Sink.close`."""
        with suppress(RuntimeError):  # it is closed
            self._client.stop()
        self._client.transport.close()

    def _hand_over(self, topic: str, message: Message, told: Told) -> None:
        from google.cloud.pubsub_v1.publisher.exceptions import FlowControlLimitError

        future = self._client.publish(
            self._path(topic), message.value, timeout=self._wait_seconds, key=message.key, **message.attributes
        )
        if isinstance(future.exception(timeout=0) if future.done() else None, FlowControlLimitError):
            raise BrokerError(f"too many messages wait for {self._path(topic)} already")
        future.add_done_callback(lambda done: told(_fault_of(done)))

    def _path(self, topic: str) -> str:
        return f"projects/{self._project}/topics/{topic}"


def _fault_of(done: Any) -> str | None:
    error = done.exception()
    return None if error is None else f"{type(error).__name__}: {error}"
