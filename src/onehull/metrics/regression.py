"""Errors of predicted values, on the scale of the label."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from onehull.metrics.masking import labelled, weighted_mean


def rmse(labels: ArrayLike, predictions: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Root of the mean squared error; None without labels."""
    rows = labelled(labels, predictions, weights)
    mean = weighted_mean((rows.predictions - rows.labels) ** 2, rows.weights)
    return None if mean is None else math.sqrt(mean)


def mae(labels: ArrayLike, predictions: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Mean absolute error; None without labels."""
    rows = labelled(labels, predictions, weights)
    return weighted_mean(np.abs(rows.predictions - rows.labels), rows.weights)
