"""Events → Apache Kafka."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onehull.errors import BrokerError, suggest
from onehull.streams.settings import QUIET, checked, confluent_kafka
from onehull.streams.sinks import CHECK_SECONDS, HELD_BYTES, HELD_MESSAGES, Message, Sink, Told

_POLL_SECONDS = 0.1
_HOLDING = {
    "linger.ms": 5,  # lines wait a little for each other, and a caller not long
    "queue.buffering.max.kbytes": HELD_BYTES >> 10,
    "queue.buffering.max.messages": HELD_MESSAGES,
}


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
            known = self._producer.list_topics(timeout=CHECK_SECONDS).topics
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
            raise BrokerError(f"too many messages wait for {self._servers} already") from error
        except self._kafka.KafkaException as error:
            raise BrokerError(f"{self._servers}: {error.args[0].str()}") from error

    def _listen(self) -> None:
        while not self._closed.is_set():
            self._producer.poll(_POLL_SECONDS)
