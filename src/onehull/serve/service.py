"""The parts of a running service and how they work together; no HTTP here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from onehull.errors import BrokerError
from onehull.serve.events import Events
from onehull.serve.metrics import Metrics
from onehull.serve.monitor import Monitor
from onehull.serve.ranker import Ranker
from onehull.serve.refusal import refuse
from onehull.serve.requests import FeedbackEvent, RankRequest
from onehull.serve.response import RankResponse
from onehull.serve.stored import ItemRefresh
from onehull.serve.users import UserSearch

_logger = logging.getLogger("onehull.serve")


@dataclass
class Service:
    """Ranks, logs what was served and what came of it, and says how it is doing.

    Attributes:
        ranker: the ranker.
        log: where events go; None keeps none.
        monitor: compares what is scored with training.
        metrics: for Prometheus.
        users: finds users to be.
        about: what a page needs to know of the model.
    """

    ranker: Ranker
    log: Events | None
    monitor: Monitor
    metrics: Metrics
    users: UserSearch
    about: Mapping[str, Any]
    log_fault: str | None = None
    """Why the latest write to the event log failed; None after one that worked."""
    refresh: ItemRefresh | None = None
    """Brings the items of a feature store; None without one."""

    def rank(self, request: RankRequest) -> RankResponse:
        """Ranks and logs the impressions; a log that cannot be written stops no feed.

        Raises:
            RefusalError: 422, see `Ranker.rank`.
        """
        request = request if self.log is not None else request.model_copy(update={"log": False})
        response = self.ranker.rank(request)
        self.monitor.add(response.trace)
        self.metrics.ranked(response.trace)
        if self.log is not None and request.log:
            try:
                self.log.impressions(request, response)
                self.log_fault = None
            except (OSError, BrokerError) as error:
                self._log_failed(error)
                note = "These impressions are not in the event log: it cannot be written."
                return replace(response, notes=[*response.notes, note])
        return response

    def feedback(self, events: list[FeedbackEvent]) -> int:
        """Appends feedback durably; returns how many events.

        Raises:
            RefusalError: 503 where there is no event log, or it cannot be written.
        """
        if self.log is None:
            raise refuse(503, "", "this service keeps no event log", None, "Start it with a directory for events.")
        try:
            self.log.feedback(events)
            self.log_fault = None
        except (OSError, BrokerError) as error:
            self._log_failed(error)
            reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
            raise refuse(503, "", f"the event log cannot be written: {reason}", None, "Send it again later.") from error
        for event in events:
            self.metrics.event(event.event)
        return len(events)

    def health(self) -> dict[str, Any]:
        """``ok``, or ``degraded`` with reasons; the service answers either way."""
        reasons = self.monitor.reasons()
        fault = self.log_fault or (self.log.fault() if self.log is not None else None)
        if fault is not None:
            reasons.append(f"event log: {fault}")
        if self.ranker.stored is not None and self.ranker.stored.fault is not None:
            reasons.append(f"feature store: {self.ranker.stored.fault}; the bundle's attributes of users stand in")
        if self.refresh is not None and self.refresh.fault is not None:
            reasons.append(f"items: {self.refresh.fault}; the items in use are older")
        return {"status": "degraded" if reasons else "ok", "reasons": reasons, "model": dict(self.ranker.model)}

    def take_items(self, items: pl.DataFrame, written: float) -> None:
        """Ranks the items of a table from now on; a request that has begun keeps those it has begun with.

        Args:
            items: see `Ranker.with_items`.
            written: when the table was written, in seconds since 1970.

        Raises:
            ArtifactError: see `Ranker.with_items`.
        """
        self.ranker = self.ranker.with_items(items)
        self.about = {**self.about, "items": len(self.ranker.items)}
        self.metrics.items(len(self.ranker.items), written)

    def close(self) -> None:
        """Flushes the event log, and ends what runs beside the requests."""
        if self.refresh is not None:
            self.refresh.close()
        if self.ranker.stored is not None:
            self.ranker.stored.close()
        if self.log is not None:
            self.log.close()

    def _log_failed(self, error: OSError | BrokerError) -> None:
        self.log_fault = str(error)
        self.metrics.error("event_log")
        _logger.error("the event log cannot be written: %s", error)
