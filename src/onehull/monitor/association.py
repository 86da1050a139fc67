"""What one feature by itself says about one label.

Ids are scored by the mean label of *other* rows with the same id, never of the row itself (out of fold, with smoothing
towards the mean of all): the mean of all rows with an id would tell every label of an id that is seen once. AUC and
rank correlation compare rows of one fold only, because means out of fold lean against the fold that they leave out.

Mutual information is I(X; Y) / H(Y) over at most 32 bins of the score, less its bias to first order (Miller, 1955).

Legend: ``N`` rows, ``E`` elements of lists, ``F`` folds, ``V`` distinct values or scores, ``B`` bins, ``C`` classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onehull.monitor.values import Floats, Ids, Ints, Mask, Numbers

FOLDS = 5
_PRIOR_ROWS = 20.0
"""The mean of all rows counts as that many rows with each id."""
_MOST_BINS = 32
_ROWS_A_BIN = 20


@dataclass(frozen=True)
class Scores:
    """One score a row, as its place among the distinct scores.

    Attributes:
        code_N: -1 is missing.
        values: distinct scores.
        fold_N: rows are compared with those of the same fold only; None compares all.
        signed: a low score can only mean a low label (scores out of fold).
    """

    code_N: Ints
    values: int
    fold_N: Ints | None = None
    signed: bool = False

    @property
    def known(self) -> Mask:
        """Rows with a score."""
        return self.code_N >= 0


def number_scores(feature: Numbers) -> Scores:
    """Numbers are their own score."""
    return Scores(feature.code_N, feature.values)


def id_scores(feature: Ids, label_N: Floats, fold_N: Ints) -> Scores:
    """Ids scored by the labels of other rows; of a bag, the id whose score is furthest from the mean of all.

    Args:
        feature: ids of ``N`` rows.
        label_N: labels; NaN is missing and is not learned from.
        fold_N: fold of each row, 0 … FOLDS - 1.
    """
    row_E = np.repeat(np.arange(len(label_N)), np.diff(np.append(feature.start_N, len(feature.code_E))))
    known_E = ~np.isnan(label_N[row_E])
    place_E = fold_N[row_E] * feature.values + feature.code_E
    shape, size = (FOLDS, feature.values), FOLDS * feature.values
    rows_FV = np.bincount(place_E[known_E], minlength=size).reshape(shape)
    sum_FV = np.bincount(place_E[known_E], label_N[row_E][known_E], minlength=size).reshape(shape)
    known_N = ~np.isnan(label_N)
    fold_rows = np.bincount(fold_N[known_N], minlength=FOLDS)
    fold_sum = np.bincount(fold_N[known_N], label_N[known_N], minlength=FOLDS)
    prior_F1 = ((fold_sum.sum() - fold_sum) / np.maximum(1, fold_rows.sum() - fold_rows))[:, None]
    other_rows_FV, other_sum_FV = rows_FV.sum(0) - rows_FV, sum_FV.sum(0) - sum_FV
    score_FV = (other_sum_FV + _PRIOR_ROWS * prior_F1) / (other_rows_FV + _PRIOR_ROWS)
    if feature.single:
        distinct, code_FV = np.unique(score_FV, return_inverse=True)
        return Scores(code_FV.ravel()[place_E], len(distinct), fold_N, signed=True)
    away_E = (score_FV - prior_F1).ravel()[place_E]
    high, low = (edge.reduceat(away_E, feature.start_N) for edge in (np.maximum, np.minimum))
    distinct, code_N = np.unique(np.where(high >= -low, high, low), return_inverse=True)
    return Scores(code_N, len(distinct), fold_N, signed=True)


def auc(scores: Scores, positive_N: Mask, known_N: Mask) -> float | None:
    """AUC of the score for a class, in the better direction where it has none; None where one class has no row.

    Args:
        scores: of ``N`` rows; rows without a score are left out.
        positive_N: rows of the class.
        known_N: rows with a label.
    """
    used_N = known_N & scores.known
    positive_FV = _counts(scores, used_N & positive_N)
    negative_FV = _counts(scores, used_N & ~positive_N)
    pairs = float(positive_FV.sum(1) @ negative_FV.sum(1))
    if not pairs:
        return None
    below_FV = np.cumsum(negative_FV, axis=1) - negative_FV / 2
    area = float((positive_FV * below_FV).sum()) / pairs
    return area if scores.signed else max(area, 1 - area)


def rank_correlation(scores: Scores, label: Numbers) -> float | None:
    """Spearman's rank correlation (ties share their mean rank), without sign; None where either is constant.

    Args:
        scores: of ``N`` rows.
        label: of the same rows.
    """
    used_N = scores.known & ~label.missing
    fold_N = scores.fold_N if scores.fold_N is not None else np.zeros(len(used_N), dtype=np.int64)
    total, rows = 0.0, 0
    for fold in np.unique(fold_N[used_N]):
        inside_N = used_N & (fold_N == fold)
        score, target = _mean_ranks(scores.code_N[inside_N]), _mean_ranks(label.code_N[inside_N])
        spread = float(np.std(score) * np.std(target))
        covariance = float(np.mean((score - score.mean()) * (target - target.mean())))
        total += len(score) * (covariance / spread if spread else 0.0)
        rows += len(score)
    correlation = total / rows if rows else None
    if correlation is None:
        return None
    return correlation if scores.signed else abs(correlation)


def information(scores: Scores, class_N: Ints, known_N: Mask) -> float | None:
    """I(X; Y) / H(Y), 0 … 1; a missing score is a bin of its own. None where the label is constant.

    Args:
        scores: of ``N`` rows.
        class_N: class of each row, 0 … C - 1.
        known_N: rows with a label.
    """
    class_K = class_N[known_N]
    rows_C = np.bincount(class_K)
    rarest = int(rows_C[rows_C > 0].min(initial=len(class_K)))
    bin_N, bins = _bins(scores, known_N, max(2, min(_MOST_BINS, rarest // _ROWS_A_BIN)))
    classes = int(class_K.max(initial=0)) + 1
    joint_BC = np.bincount(bin_N[known_N] * classes + class_K, minlength=bins * classes).reshape(bins, classes)
    label_entropy = _entropy(joint_BC.sum(0))
    if not label_entropy:
        return None
    mutual = _entropy(joint_BC.sum(1)) + label_entropy - _entropy(joint_BC)
    bias = (np.count_nonzero(joint_BC.sum(1)) - 1) * (np.count_nonzero(joint_BC.sum(0)) - 1) / (2 * len(class_K))
    return float(np.clip((mutual - bias) / label_entropy, 0, 1))


def bins_of(label: Numbers, most: int) -> Ints:
    """Bins of about equally many rows ``(N,)``; missing ones are 0."""
    return _bins(Scores(label.code_N, label.values), ~label.missing, most)[0]


def _bins(scores: Scores, known_N: Mask, most: int) -> tuple[Ints, int]:
    """Bins of about equally many known rows, and their number; 0 is for missing scores, equal ones stay together."""
    used_N = known_N & scores.known
    count_V = np.bincount(scores.code_N[used_N], minlength=scores.values)
    rows = int(count_V.sum())
    if np.count_nonzero(count_V) <= most:
        bin_V = np.cumsum(count_V > 0)
    else:
        # A bin ends with the score that reaches a quantile; a score of many rows has a bin of its own.
        ends = np.searchsorted(np.cumsum(count_V), np.linspace(0, rows, most + 1)[1:-1])
        starts_V = count_V * most >= rows
        starts_V[0] = True
        starts_V[np.minimum(ends + 1, scores.values - 1)] = True
        bin_V = np.cumsum(starts_V)
    bin_N = np.zeros(len(scores.code_N), dtype=np.int64)
    bin_N[scores.known] = bin_V[scores.code_N[scores.known]]
    return bin_N, int(bin_V.max(initial=0)) + 1


def _counts(scores: Scores, rows_N: Mask) -> Floats:
    """Rows of each score in each fold ``(F, V)``."""
    if scores.fold_N is None:
        return np.bincount(scores.code_N[rows_N], minlength=scores.values).astype(np.float64)[None]
    place = scores.fold_N[rows_N] * scores.values + scores.code_N[rows_N]
    return np.bincount(place, minlength=FOLDS * scores.values).reshape(FOLDS, -1).astype(np.float64)


def _mean_ranks(code: Ints) -> Floats:
    count = np.bincount(code)
    mean_rank: Floats = np.cumsum(count) - (count - 1) / 2
    return mean_rank[code]


def _entropy(counts: Ints) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())
