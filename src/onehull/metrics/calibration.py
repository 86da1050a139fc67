"""Does the mean of what happened equal the mean of what was predicted?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from onehull.metrics.masking import Floats, labelled


@dataclass(frozen=True)
class CalibrationCurve:
    """Means over bins of about equal size, from low to high predictions; ``N`` bins."""

    mean_prediction: Floats
    mean_label: Floats
    label_deviation: Floats
    """Standard deviation of the labels within each bin."""
    rows: Floats


def pcoc(labels: ArrayLike, predictions: ArrayLike) -> float | None:
    """Predicted over observed: Σ predictions / Σ labels. 1 is calibrated, above 1 predicts too much.

    None where the labels sum to 0.
    """
    rows = labelled(labels, predictions)
    observed = float(rows.labels.sum())
    return float(rows.predictions.sum()) / observed if observed else None


def calibration_curve(labels: ArrayLike, predictions: ArrayLike, *, bins: int = 10) -> CalibrationCurve:
    """Mean label against mean prediction in equal-mass bins of the prediction.

    Equal predictions share a bin whatever the order of the rows, so that there may be fewer bins than asked for.
    """
    rows = labelled(labels, predictions)
    if not len(rows.labels):
        empty = np.zeros(0)
        return CalibrationCurve(empty, empty, empty, empty)
    # Edges are predictions that occur ("inverted_cdf" does not interpolate); a bin holds its upper edge.
    edges = np.unique(np.quantile(rows.predictions, np.arange(1, bins) / bins, method="inverted_cdf"))
    bin_N = np.searchsorted(edges, rows.predictions, side="left")
    count = np.bincount(bin_N)
    kept = count > 0
    count = count[kept]
    prediction = np.bincount(bin_N, rows.predictions)[kept] / count
    label = np.bincount(bin_N, rows.labels)[kept] / count
    squares = np.bincount(bin_N, rows.labels**2)[kept] / count
    deviation = np.sqrt(np.maximum(squares - label**2, 0.0))
    return CalibrationCurve(prediction, label, deviation, count.astype(np.float64))


def ece(labels: ArrayLike, predictions: ArrayLike, *, bins: int = 10) -> float | None:
    """Expected calibration error: mean |mean label - mean prediction| over equal-mass bins, weighted by rows.

    None without labels.
    """
    curve = calibration_curve(labels, predictions, bins=bins)
    total = float(curve.rows.sum())
    gaps = np.abs(curve.mean_prediction - curve.mean_label)
    return float(np.dot(gaps, curve.rows)) / total if total else None
