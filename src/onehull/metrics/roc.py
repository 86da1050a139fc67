"""The ROC curve, thinned for drawing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from onehull.metrics.masking import Floats, labelled_binary


@dataclass(frozen=True)
class RocCurve:
    """Points from (0, 0) to (1, 1)."""

    false_positive_rate: Floats
    true_positive_rate: Floats


def roc_curve(labels: ArrayLike, predictions: ArrayLike, *, points: int = 200) -> RocCurve | None:
    """True against false positive rate as the threshold falls; None for one class.

    Args:
        labels: ``(B,)``, 0, 1 or NaN (missing).
        predictions: ``(B,)``.
        points: about how many points are kept, evenly along the curve.
    """
    rows = labelled_binary(labels, predictions)
    positives = float(rows.labels.sum())
    negatives = len(rows.labels) - positives
    if not positives or not negatives:
        return None
    order = np.argsort(-rows.predictions, kind="stable")
    score, label = rows.predictions[order], rows.labels[order]
    ends = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    true = np.concatenate(([0.0], np.cumsum(label)[ends] / positives))
    false = np.concatenate(([0.0], np.cumsum(1 - label)[ends] / negatives))
    # Every step goes right or up, so true + false grows: it measures the way along the curve.
    kept = np.unique(np.searchsorted(true + false, np.linspace(0, 2, points)).clip(max=len(true) - 1))
    kept = np.union1d(kept, [0, len(true) - 1])
    return RocCurve(false[kept], true[kept])
