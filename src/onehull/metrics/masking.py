"""Which rows count: the ones with a label."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onehull.errors import DataError

Floats = NDArray[np.float64]


class Labelled(NamedTuple):
    """The rows that have a label; ``N`` of them."""

    labels: Floats
    """``(N,)``."""
    predictions: Floats
    """``(N,)``, or ``(N, classes)``."""
    weights: Floats
    """``(N,)``."""
    present: NDArray[np.bool_]
    """``(B,)``: which of the given rows these are."""


def labelled(labels: ArrayLike, predictions: ArrayLike, weights: ArrayLike | None = None, *, rank: int = 1) -> Labelled:
    """Leaves out rows whose label is NaN (or None).

    Args:
        labels: ``(B,)``.
        predictions: ``(B,)`` where `rank` is 1, ``(B, classes)`` where it is 2.
        weights: ``(B,)``, at least 0. Default: 1.
        rank: dimensions of the predictions.

    Raises:
        DataError: shapes differ, predictions are not finite, labels are infinite, or a weight is negative.
    """
    label_B, prediction_B = _floats(labels), _floats(predictions)
    weight_B = np.ones(label_B.shape) if weights is None else _floats(weights)
    if label_B.ndim != 1 or prediction_B.ndim != rank or not len(label_B) == len(prediction_B) == len(weight_B):
        raise DataError(
            f"labels (B,), weights (B,) and predictions of {rank} dimension{'s' * (rank > 1)} must have the same rows. "
            f"Received shapes {label_B.shape}, {weight_B.shape} and {prediction_B.shape}."
        )
    if broken := int(np.count_nonzero(~np.isfinite(prediction_B))):
        raise DataError(f"predictions must be finite. Received {broken} of {prediction_B.size} that are not.")
    if not np.all(weight_B >= 0):
        raise DataError(f"weights must be at least 0. Received {np.min(weight_B)}.")
    if infinite := int(np.count_nonzero(np.isinf(label_B))):
        raise DataError(f"labels must not be infinite. Received {infinite} of {label_B.size} that are.")
    present = ~np.isnan(label_B)
    return Labelled(label_B[present], prediction_B[present], weight_B[present], present)


def labelled_binary(labels: ArrayLike, predictions: ArrayLike, weights: ArrayLike | None = None) -> Labelled:
    """As `labelled`, for labels that are 0 or 1."""
    rows = labelled(labels, predictions, weights)
    if other := int(np.count_nonzero((rows.labels != 0) & (rows.labels != 1))):
        raise DataError(f"labels of a binary task must be 0, 1 or missing. Received {other} others.")
    return rows


def weighted_mean(values: Floats, weights: Floats) -> float | None:
    """The mean, or None where the weights sum to 0."""
    total = float(weights.sum())
    return float(np.dot(values, weights)) / total if total > 0 else None


def _floats(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)
