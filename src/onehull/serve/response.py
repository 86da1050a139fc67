"""What the ranker answers, and what it noticed on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onehull.store import UserRead


@dataclass(frozen=True)
class RankedItem:
    """One place of the order."""

    id: str
    rank: int
    """From 1."""
    score: float | None
    """Value of the formula; None where it is not a number."""
    scores: dict[str, Any]
    """Score of each task: a probability, a value, or one probability a class."""
    show: dict[str, Any]
    attributes: dict[str, Any]
    impression: str | None
    """Id that feedback refers to; None in a preview."""


@dataclass(frozen=True)
class Trace:
    """What the monitors count of one request; sums over its candidates."""

    rows: int
    missing: dict[str, float]
    """Missing values of each feature."""
    unseen: dict[str, float]
    """Values of each feature that training never saw."""
    score_sums: dict[str, float]
    """Sum of the scores of each task that has one score."""
    not_numbers: int
    """Candidates whose fused score is not a number."""
    seconds: dict[str, float]
    """Duration of each stage."""
    stored: UserRead | None = None
    """What the feature store said of the user; None where there is no store."""


@dataclass(frozen=True)
class RankResponse:
    """A page of ranked items."""

    request: str
    model: Mapping[str, Any]
    formula: str
    items: list[RankedItem]
    candidates: int
    """Items that were ranked; a page may hold fewer."""
    unknown_candidates: list[str]
    notes: list[str]
    trace: Trace

    def body(self) -> dict[str, Any]:
        """The JSON answer; the trace stays inside but for the time it took."""
        return {
            "request": self.request,
            "model": dict(self.model),
            "formula": self.formula,
            "items": [vars(item) for item in self.items],
            "candidates": self.candidates,
            "unknown_candidates": self.unknown_candidates,
            "notes": self.notes,
            "milliseconds": round(1000 * sum(self.trace.seconds.values()), 3),
        }
