"""Google Pub/Sub → segments: acknowledged when durable, and what is delivered again counts once.

Pub/Sub gives messages ids and no places. So a subscription is one chain whose places are running numbers, and a segment
keeps the ids of its messages. Processes that share a subscription add to the same chain: one that was overtaken reads
the ids of what the others have added, drops what it holds of them, and adds the rest behind. A segment is thus added
only by one who knows all ids before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from onehull.errors import BrokerError
from onehull.streams.draft import Draft
from onehull.streams.ingest import Ingest, Options, Partition, partition_name
from onehull.streams.pubsub_sink import PubSubSink
from onehull.streams.recent import IDS_FILE, RecentIds
from onehull.streams.settings import google_pubsub

_BATCH = 1000
"""Messages that one call may bring, and acknowledgements that one may carry."""
_POLL_SECONDS = 0.5
_CALL_SECONDS = 10.0
_LEASE_SECONDS = 60
"""For so long Pub/Sub gives a message to nobody else; renewed at half of it."""
_PAUSE_SECONDS = 0.5
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class PubSubSubscription:
    """What is read.

    Attributes:
        project: of the subscription.
        name: of the subscription; processes that name the same one share it.
        remember: how long a message that is delivered again is known by its id.
        quarantine: topic of the project that refused messages are sent to, besides the quarantine file.
    """

    project: str
    name: str
    remember: timedelta = timedelta(hours=24)
    quarantine: str | None = None


class _Held(NamedTuple):
    message: str
    content: bytes
    acknowledgement: str


class PubSubIngest(Ingest):
    """Reads a subscription into segments.

    With PUBSUB_EMULATOR_HOST in the environment it speaks to Google's emulator.

    Args:
        subscription: what is read.
        out: where segments go.
        **options: see `onehull.streams.ingest.Options`.

    Raises:
        MissingPartError: google-cloud-pubsub is not installed.
        BrokerError: there are no credentials, or the topic for refused messages is absent.
    """

    def __init__(self, subscription: PubSubSubscription, out: Path, **options: Unpack[Options]) -> None:
        super().__init__(out, **options)
        pubsub = google_pubsub()
        from google.auth.exceptions import DefaultCredentialsError

        self._path = f"projects/{subscription.project}/subscriptions/{subscription.name}"
        try:
            self._client = pubsub.SubscriberClient()
        except DefaultCredentialsError as error:
            raise BrokerError(f"{self._path}: {error}") from error
        if subscription.quarantine is not None:
            sink = PubSubSink(subscription.project, _PATIENCE_SECONDS)
            sink.check([subscription.quarantine])
            self._refused = sink, subscription.quarantine
        self._part: Partition = (subscription.name, 0)
        self._recent = RecentIds(self._chain(self._part), subscription.remember)
        self._held: dict[str, _Held] = {}
        self._again: list[str] = []
        """Acknowledgements of messages that are held already."""
        self._leased = 0.0

    def _begin(self) -> None:
        self._chain(self._part).clean()
        self._recent.refresh()
        if (last := self._recent.last) is not None:
            self._clock.not_before(last.written.timestamp())
        self._drafts[self._part] = self._empty_draft()
        self._take(self._pull(self._refused_at_start))
        self.metrics.reads(1)

    def _end(self) -> None:
        """What is not durable goes back at once, to whoever reads."""
        self._call_in_parts(self._client.modify_ack_deadline, self._acknowledgements(), ack_deadline_seconds=0)
        self._client.close()

    def _finished(self) -> bool:
        """A subscription has no end."""
        return False

    def _read(self) -> None:
        if self._held and time.monotonic() - self._leased > _LEASE_SECONDS / 2:
            self._lease(self._acknowledgements())
        self._take(self._pull(self._failed))

    def _pull(self, failed: Callable[[Exception], None]) -> Sequence[Any]:
        from google.api_core.exceptions import DeadlineExceeded, GoogleAPIError

        request = {"subscription": self._path, "max_messages": _BATCH}
        try:
            return self._client.pull(request, timeout=_POLL_SECONDS, retry=None).received_messages
        except DeadlineExceeded:
            return ()
        except GoogleAPIError as error:
            failed(error)
            return ()

    def _refused_at_start(self, error: Exception) -> None:
        remedy = "Correct --pubsub and --subscription, the credentials, or PUBSUB_EMULATOR_HOST."
        raise BrokerError(f"{self._path} cannot be read: {error}. {remedy}") from error

    def _failed(self, error: Exception) -> None:
        from google.api_core.exceptions import Forbidden, NotFound, Unauthorized

        if isinstance(error, (Forbidden, NotFound, Unauthorized)):
            self._refused_at_start(error)
        self._note(f"Pub/Sub: {error}; it is tried again", about=type(error))
        time.sleep(_PAUSE_SECONDS)

    def _take(self, received: Sequence[Any]) -> None:
        self._lease([one.ack_id for one in received])
        now, durable = self._clock.now(), []
        for one in received:
            held = _Held(one.message.message_id, one.message.data, one.ack_id)
            if held.message in self._recent:
                durable.append(held.acknowledgement)
            elif held.message in self._held:
                self._again.append(held.acknowledgement)
                self._drafts[self._part].repeated += 1
            else:
                self._add(held, now)
        self._repeated(durable)

    def _add(self, held: _Held, now: float) -> None:
        draft = self._drafts[self._part]
        self._held[held.message] = held
        draft.add(draft.next, held.content, self._admission, now)

    def _repeated(self, acknowledgements: list[str]) -> None:
        """Messages that a segment holds already."""
        if acknowledgements:
            self.metrics.repeated(partition_name(self._part), len(acknowledgements))
            self._acknowledge(acknowledgements)

    def _extra_files(self, _: Draft) -> dict[str, bytes]:
        return {IDS_FILE: "".join(f"{message}\n" for message in self._held).encode("utf-8")}

    def _committed(self, _: Partition, draft: Draft) -> None:
        self._recent.add(draft.books(), self._held)
        self._acknowledge(self._acknowledgements())
        self._held, self._again = {}, []

    def _overtaken(self, part: Partition) -> None:
        self._recent.refresh()
        durable = [held for held in self._held.values() if held.message in self._recent]
        left = [held for held in self._held.values() if held.message not in self._recent]
        self._held = {}
        self._drafts[part] = self._empty_draft()
        now = self._clock.now()
        for held in left:
            self._add(held, now)
        self._repeated([held.acknowledgement for held in durable])

    def _empty_draft(self) -> Draft:
        last = self._recent.last
        first = last.next if last is not None else 0
        return Draft(partition_name(self._part), first, first)

    def _tell_lag(self) -> None:
        """Pub/Sub tells it in Google's own monitoring only: ``num_undelivered_messages``."""

    def _acknowledgements(self) -> list[str]:
        return [*(held.acknowledgement for held in self._held.values()), *self._again]

    def _lease(self, acknowledgements: list[str]) -> None:
        self._leased = time.monotonic()
        seconds = _LEASE_SECONDS
        self._call_in_parts(self._client.modify_ack_deadline, acknowledgements, ack_deadline_seconds=seconds)

    def _acknowledge(self, acknowledgements: list[str]) -> None:
        self._call_in_parts(self._client.acknowledge, acknowledgements)

    def _call_in_parts(self, call: Any, acknowledgements: list[str], **more: object) -> None:
        """A call that fails leaves messages to be delivered again, and known by their ids."""
        from google.api_core.exceptions import GoogleAPIError

        for part in _parts(acknowledgements):
            try:
                call({"subscription": self._path, "ack_ids": part, **more}, timeout=_CALL_SECONDS)
            except GoogleAPIError as error:
                self._note(f"Pub/Sub: {error}; some messages will be delivered again", about=type(error))
                return


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(values), _BATCH):
        yield values[begin : begin + _BATCH]
