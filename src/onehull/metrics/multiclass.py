"""Metrics of probabilities over classes 0 … C-1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onehull.errors import DataError
from onehull.metrics.auc import auc
from onehull.metrics.classification import EPSILON
from onehull.metrics.masking import Floats, labelled, weighted_mean


def multiclass_log_loss(labels: ArrayLike, predictions: ArrayLike) -> float | None:
    """Mean cross-entropy in nats of ``(B, C)`` probabilities; None without labels."""
    label_N, probability_NC = _classes(labels, predictions)
    return weighted_mean(row_multiclass_log_losses(label_N, probability_NC), np.ones(len(label_N)))


def multiclass_accuracy(labels: ArrayLike, predictions: ArrayLike) -> float | None:
    """Share of rows whose most probable class (the first of equals) is the label; None without labels."""
    label_N, probability_NC = _classes(labels, predictions)
    hits = (probability_NC.argmax(axis=1) == label_N).astype(np.float64)
    return weighted_mean(hits, np.ones(len(label_N)))


def multiclass_auc(labels: ArrayLike, predictions: ArrayLike) -> float | None:
    """Mean over classes of the AUC of one class against the rest; classes that do not occur are left out.

    None where fewer than two classes occur.
    """
    label_N, probability_NC = _classes(labels, predictions)
    areas = [auc(label_N == c, probability_NC[:, c]) for c in range(probability_NC.shape[1])]
    defined = [area for area in areas if area is not None]
    return float(np.mean(defined)) if defined else None


def row_multiclass_log_losses(label_N: NDArray[np.int64], probability_NC: Floats) -> Floats:
    """Cross-entropy of each row ``(N,)``, in nats."""
    p = probability_NC[np.arange(len(label_N)), label_N]
    return -np.log(np.clip(p, EPSILON, 1 - EPSILON))


def _classes(labels: ArrayLike, predictions: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    """Class numbers ``(N,)`` and probabilities ``(N, C)`` of the labelled rows."""
    rows = labelled(labels, predictions, rank=2)
    classes = rows.predictions.shape[1]
    label_N = rows.labels.astype(np.int64)
    if other := int(np.count_nonzero((label_N != rows.labels) | (label_N < 0) | (label_N >= classes))):
        raise DataError(f"labels must be whole numbers from 0 to {classes - 1}, or missing. Received {other} others.")
    return label_N, rows.predictions
