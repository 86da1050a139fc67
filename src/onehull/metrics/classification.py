"""Metrics of probabilities of a binary event."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from onehull.metrics.masking import Floats, labelled_binary, weighted_mean

EPSILON = 1e-7
"""Probabilities are clipped to [1e-7, 1 - 1e-7], about the resolution of float32 near 1."""


def row_log_losses(labels: Floats, probabilities: Floats) -> Floats:
    """Cross-entropy of each row ``(N,)``, in nats."""
    p = np.clip(probabilities, EPSILON, 1 - EPSILON)
    return -np.where(labels > 0, np.log(p), np.log1p(-p))


def log_loss(labels: ArrayLike, predictions: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Mean cross-entropy in nats; None without labels."""
    rows = labelled_binary(labels, predictions, weights)
    return weighted_mean(row_log_losses(rows.labels, rows.predictions), rows.weights)


def normalized_entropy(labels: ArrayLike, predictions: ArrayLike) -> float | None:
    """Log loss divided by that of predicting the positive rate for every row (He et al., ADKDD 2014, eq. 3).

    Below 1 is better than the constant; None for one class, whose entropy is 0.
    """
    rows = labelled_binary(labels, predictions)
    loss = weighted_mean(row_log_losses(rows.labels, rows.predictions), rows.weights)
    if loss is None or not 0 < (rate := float(rows.labels.mean())) < 1:
        return None
    return loss / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))


def accuracy(labels: ArrayLike, predictions: ArrayLike, *, threshold: float = 0.5) -> float | None:
    """Share of rows on the right side of a threshold; a prediction at the threshold counts as positive."""
    rows = labelled_binary(labels, predictions)
    return weighted_mean(((rows.predictions >= threshold) == (rows.labels > 0)).astype(np.float64), rows.weights)
