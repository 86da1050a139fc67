"""What an ingesting process counts, for Prometheus and for the line in the terminal."""

from __future__ import annotations

import time
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, start_http_server

from onehull.errors import ArtifactError
from onehull.streams.segments import SegmentBooks


class IngestMetrics:
    """Events, refusals and segments that are durable, and how far the partitions are behind.

    A rate is Prometheus' ``rate(onehull_ingest_events_total[1m])``.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = 0
        self.refused = 0
        self.partitions = 0
        self._joined = False
        self._began = time.monotonic()
        self._lags: dict[str, int] = {}
        part = ["source"]
        self._events = Counter("onehull_ingest_events", "Durable events", part, registry=self.registry)
        self._refused = Counter(
            "onehull_ingest_quarantined", "Refused messages", [*part, "reason"], registry=self.registry
        )
        self._repeated = Counter("onehull_ingest_repeated", "Messages held already", part, registry=self.registry)
        self._absent = Counter("onehull_ingest_absent", "Places without a message", part, registry=self.registry)
        self._segments = Counter("onehull_ingest_segments", "Segments written", part, registry=self.registry)
        self._overtaken = Counter(
            "onehull_ingest_overtaken", "Stretches that another process added first", part, registry=self.registry
        )
        self._lag = Gauge("onehull_ingest_lag", "Messages that wait in the broker", part, registry=self.registry)
        self._held = Gauge("onehull_ingest_partitions", "Partitions that this process reads", registry=self.registry)
        self._latest = Gauge(
            "onehull_ingest_latest_event_seconds", "Time of the latest durable event", part, registry=self.registry
        )

    def committed(self, source: str, books: SegmentBooks) -> None:
        """Counts a segment."""
        self.events += books.events
        self.refused += sum(books.quarantined.values())
        self._segments.labels(source).inc()
        self._events.labels(source).inc(books.events)
        self._repeated.labels(source).inc(books.repeated)
        self._absent.labels(source).inc(books.absent)
        for reason, count in books.quarantined.items():
            self._refused.labels(source, reason).inc(count)
        if books.latest is not None:
            self._latest.labels(source).set(books.latest)

    def overtaken(self, source: str) -> None:
        """Counts a stretch that another process was faster with."""
        self._overtaken.labels(source).inc()

    def repeated(self, source: str, messages: int) -> None:
        """Counts messages that an earlier segment holds already."""
        self._repeated.labels(source).inc(messages)

    def reads(self, partitions: int) -> None:
        """Says how many partitions this process reads."""
        self.partitions = partitions
        self._joined = self._joined or partitions > 0
        self._held.set(partitions)

    def lag(self, source: str, messages: int) -> None:
        """Says how many messages of a partition wait."""
        self._lags[source] = messages
        self._lag.labels(source).set(messages)

    def released(self, source: str) -> None:
        """A partition went to another process, which tells its lag from now on."""
        if self._lags.pop(source, None) is not None:
            self._lag.remove(source)

    def line(self) -> str:
        """One line for a terminal."""
        rate = self.events / max(1e-9, time.monotonic() - self._began)
        waiting = f", {sum(self._lags.values()):,} waiting" if self._lags else ""
        joined = "" if self._joined else ", no partition yet"
        return f"{self.events:,} events, {rate:,.0f}/s, {self.refused:,} quarantined{waiting}{joined}"

    def text(self) -> str:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry).decode("utf-8")

    def serve(self, port: int) -> WSGIServer:
        """Answers Prometheus on the loopback interface.

        Raises:
            ArtifactError: the port is in use or not allowed.
        """
        try:
            server, _ = start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except OSError as error:
            remedy = "Stop what listens there, or choose another with --metrics-port."
            raise ArtifactError(f"127.0.0.1:{port} cannot be listened on: {error.strerror}. {remedy}") from error
        return server
