"""Grouped AUC: the order within each user's impressions (Zhou et al., Deep Interest Network, KDD 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onehull.metrics.masking import labelled_binary


@dataclass(frozen=True)
class GroupedAuc:
    """AUC within users.

    Attributes:
        value: mean over the users that have both classes, weighted by their labelled impressions; None without users.
        unweighted: the plain mean over the same users.
        users_counted: users with both classes.
        users_left_out: users with one class, whose order cannot be judged.
        rows_counted: labelled impressions of the users counted.
    """

    value: float | None
    unweighted: float | None
    users_counted: int
    users_left_out: int
    rows_counted: int


def gauc(labels: ArrayLike, predictions: ArrayLike, users: ArrayLike) -> GroupedAuc:
    """Σ_u n_u AUC_u / Σ_u n_u over users u with both classes, n_u their labelled impressions.

    Args:
        labels: ``(B,)``, 0, 1 or NaN (missing).
        predictions: ``(B,)``.
        users: ``(B,)`` ids of any type; None and NaN are rows without a user, which are left out.
    """
    user_B = np.asarray(users)
    rows = labelled_binary(labels, predictions)
    known = _known(user_B[rows.present])
    user_N = np.unique(user_B[rows.present][known], return_inverse=True)[1]
    label_N, score_N = rows.labels[known], rows.predictions[known]
    if not len(user_N):
        return GroupedAuc(None, None, 0, 0, 0)

    order = np.lexsort((score_N, user_N))
    user_N, score_N, positive_N = user_N[order], score_N[order], label_N[order]
    new_user = np.concatenate(([True], user_N[1:] != user_N[:-1]))
    new_tie = new_user | np.concatenate(([True], score_N[1:] != score_N[:-1]))
    ties = np.flatnonzero(new_tie)
    positives = np.add.reduceat(positive_N, ties)
    negatives = np.add.reduceat(1.0 - positive_N, ties)
    # Of each user: the first of its ties, and negatives of all users before it.
    first = np.flatnonzero(new_user[ties])
    before = np.cumsum(negatives) - negatives
    below = before - np.repeat(before[first], np.diff(np.append(first, len(ties)))) + negatives / 2
    wins_U = np.add.reduceat(positives * below, first)
    positives_U, negatives_U = np.add.reduceat(positives, first), np.add.reduceat(negatives, first)
    return _summary(wins_U, positives_U, negatives_U)


def _summary(wins_U: Any, positives_U: Any, negatives_U: Any) -> GroupedAuc:
    both = (positives_U > 0) & (negatives_U > 0)
    left_out = int(np.count_nonzero(~both))
    if not np.any(both):
        return GroupedAuc(None, None, 0, left_out, 0)
    auc_U = wins_U[both] / (positives_U * negatives_U)[both]
    rows_U = (positives_U + negatives_U)[both]
    value = float(np.dot(auc_U, rows_U) / rows_U.sum())
    return GroupedAuc(value, float(auc_U.mean()), len(auc_U), left_out, int(rows_U.sum()))


def _known(users: NDArray[Any]) -> NDArray[np.bool_]:
    if users.dtype.kind == "f":
        return ~np.isnan(users)
    if users.dtype.kind == "O":
        # NaN is the only value that differs from itself.
        return np.fromiter((user is not None and user == user for user in users), dtype=bool, count=len(users))  # noqa: PLR0124
    return np.ones(len(users), dtype=bool)
