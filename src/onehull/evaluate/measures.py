"""The metric by which two models are compared on a task, as a function of row weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onehull.metrics import RankedScores
from onehull.metrics.multiclass import row_multiclass_log_losses

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Measure = Callable[[Floats], float | None]
"""Row weights ``(B,)`` → the metric; None is undefined."""


@dataclass(frozen=True)
class TaskRows:
    """One task: labels ``(B,)`` with NaN for missing, and what both models predict."""

    kind: Literal["binary", "regression", "multiclass"]
    labels: Floats
    predictions: Floats
    baseline: Floats


@dataclass(frozen=True)
class Pair:
    """One metric of both models."""

    metric: Literal["auc", "rmse", "log_loss"]
    measure: Measure
    baseline: Measure

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is an error."""
        return self.metric != "auc"


def pair_of(rows: TaskRows) -> Pair:
    """AUC of a binary task, RMSE of a regression task, log loss of a multi-class task.

    What does not depend on the weights (the order of the scores, the error of each row) is computed once.
    """
    present = np.flatnonzero(~np.isnan(rows.labels))
    labels = rows.labels[present]
    first, second = rows.predictions[present], rows.baseline[present]
    match rows.kind:
        case "binary":
            return Pair("auc", _auc(labels, first, present), _auc(labels, second, present))
        case "regression":
            return Pair("rmse", _root_mean((first - labels) ** 2, present), _root_mean((second - labels) ** 2, present))
        case "multiclass":
            classes = labels.astype(np.int64)
            losses = [row_multiclass_log_losses(classes, p) for p in (first, second)]
            return Pair("log_loss", _mean(losses[0], present), _mean(losses[1], present))


def _auc(labels: Floats, scores: Floats, present: Indices) -> Measure:
    ranked = RankedScores(labels, scores)
    return lambda weights: ranked.auc(weights[present])


def _mean(values: Floats, present: Indices) -> Measure:
    def measure(weights: Floats) -> float | None:
        weight = weights[present]
        total = float(weight.sum())
        return float(np.dot(values, weight)) / total if total else None

    return measure


def _root_mean(squares: Floats, present: Indices) -> Measure:
    mean = _mean(squares, present)

    def measure(weights: Floats) -> float | None:
        value = mean(weights)
        return None if value is None else math.sqrt(value)

    return measure
