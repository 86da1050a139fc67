"""Prometheus metrics of one service, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from onehull.serve.monitor import Monitor
from onehull.serve.response import Trace

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_AGES = (60, 600, 3600, 6 * 3600, 86_400, 3 * 86_400, 7 * 86_400, 30 * 86_400)
_ROWS = (1, 10, 50, 100, 200, 500, 1000, 2000)


class Metrics:
    """Counts requests, stages, candidates, events and errors; shows what the monitor sees.

    Args:
        monitor: source of the shares and means.
        kinds: kinds of feedback that have a label of their own; others count as ``other``, because a client
            must not be able to add labels without end.
    """

    def __init__(self, monitor: Monitor, kinds: Iterable[str]) -> None:
        self._kinds = frozenset(kinds)
        self._registry = CollectorRegistry()
        self._requests = Counter("onehull_requests", "Requests answered", ["route", "status"], registry=self._registry)
        self._latency = Histogram(
            "onehull_request_seconds", "Request latency", ["route"], buckets=_SECONDS, registry=self._registry
        )
        self._stages = Histogram(
            "onehull_rank_stage_seconds", "Latency by stage", ["stage"], buckets=_SECONDS, registry=self._registry
        )
        self._candidates = Histogram(
            "onehull_rank_candidates", "Candidates scored a request", buckets=_ROWS, registry=self._registry
        )
        self._events = Counter("onehull_events", "Feedback events accepted", ["event"], registry=self._registry)
        self._errors = Counter("onehull_errors", "Errors by kind", ["kind"], registry=self._registry)
        self._reads = Counter(
            "onehull_feature_store_reads", "Reads of a user by outcome", ["outcome"], registry=self._registry
        )
        self._ages = Histogram(
            "onehull_feature_freshness_seconds",
            "Age of a user's attributes when they were read",
            buckets=_AGES,
            registry=self._registry,
        )
        self._items = Gauge("onehull_items", "Items that can be ranked", registry=self._registry)
        self._items_written = Gauge(
            "onehull_items_written_timestamp_seconds", "When the items in use were written", registry=self._registry
        )
        self._registry.register(_Drift(monitor))

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def ranked(self, trace: Trace) -> None:
        """Counts a ranking."""
        self._candidates.observe(trace.rows)
        for stage, seconds in trace.seconds.items():
            self._stages.labels(stage).observe(seconds)
        if trace.not_numbers:
            self._errors.labels("score_not_a_number").inc(trace.not_numbers)
        if trace.stored is not None:
            self._reads.labels(trace.stored.outcome).inc()
            if trace.stored.age_seconds is not None:
                self._ages.observe(trace.stored.age_seconds)

    def items(self, count: int, written: float) -> None:
        """Notes the items in use: how many, and when their table was written, in seconds since 1970."""
        self._items.set(count)
        self._items_written.set(written)

    def event(self, kind: str) -> None:
        """Counts an accepted feedback event."""
        self._events.labels(kind if kind in self._kinds else "other").inc()

    def error(self, kind: str) -> None:
        """Counts an error of the service itself: ``event_log``, ``impression_lost`` or ``internal``."""
        self._errors.labels(kind).inc()

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Drift(Collector):
    """Shares and means of the monitor's window, taken when somebody looks."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`."""
        window = self._monitor.window()
        training = {name: feature.missing_share for name, feature in self._monitor.training.items()}
        yield _gauge("onehull_window_rows", "Scored rows in the monitor's window", None, {"": window.rows})
        yield _gauge("onehull_feature_missing_share", "Missing values", "feature", window.missing_share)
        yield _gauge("onehull_feature_missing_share_training", "Missing values in training", "feature", training)
        yield _gauge("onehull_feature_unseen_share", "Values never seen in training", "feature", window.unseen_share)
        yield _gauge("onehull_task_mean_score", "Mean score", "task", window.mean_score)


def _gauge(name: str, text: str, label: str | None, values: object) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label] if label else [])
    for key, value in dict(values).items():  # type: ignore[call-overload]
        family.add_metric([key] if label else [], value)
    return family
