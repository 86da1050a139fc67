"""Events → Google Pub/Sub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from onehull.errors import BrokerError
from onehull.streams.settings import google_pubsub
from onehull.streams.sinks import CHECK_SECONDS, HELD_BYTES, HELD_MESSAGES, Message, Sink, Told


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
            message_limit=HELD_MESSAGES,
            byte_limit=HELD_BYTES,
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
                self._client.get_topic(topic=self._path(topic), timeout=CHECK_SECONDS, retry=None)
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
