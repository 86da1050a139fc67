"""What the plots show, as points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onehull.evaluate.report import Bins, Roc
from onehull.metrics import calibration_curve, roc_curve

Floats = NDArray[np.float64]
_DIGITS = 6
_BINS = 10


def roc_points(labels: Floats, predictions: Floats) -> Roc | None:
    """The ROC curve in about 200 points; None for one class."""
    curve = roc_curve(labels, predictions)
    if curve is None:
        return None
    return Roc(
        false_positive_rate=_points(curve.false_positive_rate), true_positive_rate=_points(curve.true_positive_rate)
    )


def calibration_bins(labels: Floats, predictions: Floats) -> Bins | None:
    """Deciles of the prediction; None without labels."""
    curve = calibration_curve(labels, predictions, bins=_BINS)
    if not len(curve.rows):
        return None
    return Bins(
        position=_points(curve.mean_prediction),
        prediction=_points(curve.mean_prediction),
        label=_points(curve.mean_label),
        deviation=_points(curve.label_deviation),
        rows=tuple(int(count) for count in curve.rows),
    )


def duration_bins(labels: Floats, predictions: Floats, durations: Floats) -> Bins | None:
    """Deciles of the duration; None where no labelled row has one."""
    present = ~np.isnan(labels) & np.isfinite(durations)
    if not present.any():
        return None
    # The same equal-mass bins, made of the duration instead of the prediction.
    by_label = calibration_curve(labels[present], durations[present], bins=_BINS)
    by_prediction = calibration_curve(predictions[present], durations[present], bins=_BINS)
    return Bins(
        position=_points(by_label.mean_prediction),
        prediction=_points(by_prediction.mean_label),
        label=_points(by_label.mean_label),
        deviation=_points(by_label.label_deviation),
        rows=tuple(int(count) for count in by_label.rows),
    )


def _points(values: Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)
