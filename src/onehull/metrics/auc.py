"""Area under the ROC curve: how often a positive is scored above a negative."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from onehull.metrics.masking import Floats, labelled_binary


class RankedScores:
    """Scores sorted once, for many AUCs with different weights (a bootstrap weighs rows by how often it drew them).

    Args:
        labels: ``(N,)``, 0 or 1, none missing.
        scores: ``(N,)``.
    """

    def __init__(self, labels: Floats, scores: Floats) -> None:
        self._order = np.argsort(scores, kind="stable")
        ranked = scores[self._order]
        self._positive = (labels[self._order] > 0).astype(np.float64)
        # A tie is a run of equal scores; AUC needs the weights of each tie only.
        self._starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])) if len(ranked) else np.zeros(0, int)

    def auc(self, weights: Floats) -> float | None:
        """The AUC under row weights ``(N,)``; None where one class has no weight."""
        weight = weights[self._order]
        positive = weight * self._positive
        negative = weight - positive
        if len(self._starts) < len(weight):
            positive = np.add.reduceat(positive, self._starts)
            negative = np.add.reduceat(negative, self._starts)
        below = np.cumsum(negative) - negative / 2
        pairs = float(positive.sum()) * float(negative.sum())
        return float(np.dot(positive, below)) / pairs if pairs > 0 else None


def auc(labels: ArrayLike, predictions: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """P(score of a positive > score of a negative) + ½ P(equal), by ranks, in O(n log n).

    Args:
        labels: ``(B,)``, 0, 1 or NaN (missing).
        predictions: ``(B,)``, any scale.
        weights: ``(B,)``. Default: 1.

    Returns:
        The area, or None where the labelled rows have one class only.
    """
    rows = labelled_binary(labels, predictions, weights)
    return RankedScores(rows.labels, rows.predictions).auc(rows.weights)
