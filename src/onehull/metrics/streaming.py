"""AUC over batches, in constant memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from onehull.errors import DataError
from onehull.metrics.masking import labelled_binary


class StreamingAuc:
    """AUC of all batches together, from histograms of the scores of both classes.

    A mean of batch AUCs would be another number, and has no value for batches of one class. Rows in one bin count as
    ties; `error_bound` says how far that can be from `auc` over all rows.

    Args:
        bins: of equal width over [0, 1].
    """

    def __init__(self, bins: int = 4096) -> None:
        self._positives = np.zeros(bins)
        self._negatives = np.zeros(bins)

    def update(self, labels: ArrayLike, predictions: ArrayLike) -> None:
        """Adds a batch.

        Args:
            labels: ``(B,)``, 0, 1 or NaN (missing).
            predictions: ``(B,)`` probabilities.

        Raises:
            DataError: a prediction lies outside [0, 1].
        """
        rows = labelled_binary(labels, predictions)
        if outside := int(np.count_nonzero((rows.predictions < 0) | (rows.predictions > 1))):
            raise DataError(f"predictions must be probabilities. Received {outside} outside [0, 1].")
        bins = len(self._positives)
        bin_N = np.minimum((rows.predictions * bins).astype(np.int64), bins - 1)
        self._positives += np.bincount(bin_N, rows.labels, bins)
        self._negatives += np.bincount(bin_N, 1 - rows.labels, bins)

    def merge(self, other: StreamingAuc) -> None:
        """Adds all rows that another one has seen (another worker's, say).

        Raises:
            DataError: the other one has another number of bins.
        """
        if len(other._positives) != len(self._positives):
            raise DataError(f"bins must be equal. Received {len(self._positives)} and {len(other._positives)}.")
        self._positives += other._positives
        self._negatives += other._negatives

    def value(self) -> float | None:
        """The AUC so far; None while only one class was seen."""
        pairs = self._pairs()
        below = np.cumsum(self._negatives) - self._negatives / 2
        return float(np.dot(self._positives, below)) / pairs if pairs else None

    def error_bound(self) -> float | None:
        """Largest possible distance of `value` from the AUC over all rows."""
        pairs = self._pairs()
        return float(np.dot(self._positives, self._negatives)) / (2 * pairs) if pairs else None

    def _pairs(self) -> float:
        return float(self._positives.sum()) * float(self._negatives.sum())
