"""What the service saw lately, over a window of scored rows, compared with what training saw."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from onehull.serve.response import Trace
from onehull.spec.bundle import FeatureStatistics
from onehull.spec.serving import Monitoring


@dataclass(frozen=True)
class Window:
    """Shares and means over the latest scored rows."""

    rows: int
    missing_share: Mapping[str, float]
    unseen_share: Mapping[str, float]
    mean_score: Mapping[str, float]


class Monitor:
    """Keeps the traces of the latest requests.

    Args:
        rules: window and thresholds.
        training: what training saw of each feature.
    """

    def __init__(self, rules: Monitoring, training: Mapping[str, FeatureStatistics]) -> None:
        self.rules = rules
        self.training = dict(training)
        self._lock = threading.Lock()
        self._traces: deque[Trace] = deque()
        self._rows = 0

    def add(self, trace: Trace) -> None:
        """Counts one request, and forgets those that the window no longer needs."""
        if not trace.rows:
            return
        with self._lock:
            self._traces.append(trace)
            self._rows += trace.rows
            while self._rows - self._traces[0].rows >= self.rules.window_rows:
                self._rows -= self._traces.popleft().rows

    def window(self) -> Window:
        """Shares and means over the window."""
        with self._lock:
            traces, rows = list(self._traces), self._rows

        def shares(field: str) -> dict[str, float]:
            totals: dict[str, float] = {}
            for trace in traces:
                for name, value in getattr(trace, field).items():
                    totals[name] = totals.get(name, 0.0) + value
            return {name: total / rows for name, total in totals.items()}

        return Window(rows, shares("missing"), shares("unseen"), shares("score_sums"))

    def reasons(self) -> list[str]:
        """Why the service calls itself degraded; empty while it does not.

        The rules wait for a full window: a single new user with 500 candidates is no drift.
        """
        window = self.window()
        if window.rows < self.rules.window_rows:
            return []
        reasons = []
        for name, share in sorted(window.unseen_share.items()):
            if share > self.rules.max_unseen_share:
                limit = f"{self.rules.max_unseen_share:.0%} (monitoring.max_unseen_share)"
                reasons.append(f"{name}: {share:.0%} of the values were never seen in training; the limit is {limit}")
        for name, share in sorted(window.missing_share.items()):
            before = self.training[name].missing_share if name in self.training else 0.0
            if share > before + self.rules.max_missing_increase:
                limit = f"an increase of {self.rules.max_missing_increase:.0%} (monitoring.max_missing_increase)"
                reasons.append(f"{name}: {share:.0%} missing, {before:.0%} in training; the limit is {limit}")
        return reasons
