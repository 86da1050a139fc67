"""How the labels of a quantity are distributed in the training part: quantiles, and quantiles by duration.

Shapes: ``B`` rows of a batch, ``N`` rows that are kept, ``G`` groups, ``Q`` levels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onehull.features.quantiles import equal_frequency_boundaries
from onehull.spec.labels import DurationGroups, LabelDistribution

_LIMIT = 2_000_000
"""Rows that are kept of a task: 16 MB; a quantile of so many is exact to 0.1 % of the rows."""
_LEVELS = 1025
_GROUPS, _ROWS_OF_A_GROUP, _LEVELS_OF_A_GROUP = 32, 512, 129


class LabelSample:
    """Training labels of one task, with the encoded duration of each row where there is one.

    All of them up to two million, then every second one, every fourth one and so on: memory is bounded, and the same
    table gives the same sample.

    Args:
        task: name of the task.
        feature: encoded input that holds the duration, or None.
    """

    def __init__(self, task: str, feature: str | None) -> None:
        self.task = task
        self._feature = feature
        self._kept: list[np.ndarray] = []
        self._rows, self._seen, self._stride = 0, 0, 1
        self._smallest, self._largest = np.inf, -np.inf

    def add(self, inputs: Mapping[str, np.ndarray], labels_B: np.ndarray, train_B: np.ndarray) -> None:
        """Takes in the labelled training rows of a batch.

        Args:
            inputs: encoded inputs.
            labels_B: labels, NaN where missing.
            train_B: bool, rows of the training part.
        """
        known_B = train_B & ~np.isnan(labels_B)
        if not known_B.any():
            return
        label_N = labels_B[known_B]
        self._smallest = min(self._smallest, float(label_N.min()))
        self._largest = max(self._largest, float(label_N.max()))
        chosen_N = np.arange(self._seen, self._seen + len(label_N)) % self._stride == 0
        self._seen += len(label_N)
        columns = [label_N] if self._feature is None else [label_N, _first(inputs[self._feature])[known_B]]
        self._kept.append(np.stack([column[chosen_N].astype(np.float32) for column in columns]))
        self._rows += int(chosen_N.sum())
        if self._rows > _LIMIT:
            self._kept = [np.concatenate(self._kept, axis=1)[:, ::2]]
            self._rows, self._stride = self._kept[0].shape[1], 2 * self._stride

    def distribution(self) -> LabelDistribution | None:
        """What has been taken in; None without a label."""
        if not self._rows:
            return None
        columns = np.concatenate(self._kept, axis=1).astype(np.float64)
        quantiles_Q = np.quantile(columns[0], np.linspace(0.0, 1.0, _LEVELS))
        quantiles_Q[0], quantiles_Q[-1] = self._smallest, self._largest
        return LabelDistribution(
            mean=_digits(columns[0].mean()),
            mean_log1p=_digits(np.log1p(columns[0]).mean()) if self._smallest > -1 else None,
            quantiles=tuple(map(_digits, quantiles_Q)),
            groups=None if self._feature is None else _groups(self._feature, columns[0], columns[1]),
        )


def _groups(feature: str, label_N: np.ndarray, duration_N: np.ndarray) -> DurationGroups:
    """Quantiles of labels in groups of about equally many rows by duration, none of them too small."""
    most = max(1, min(_GROUPS, len(label_N) // _ROWS_OF_A_GROUP))
    boundaries = equal_frequency_boundaries(duration_N, most)
    group_N = np.searchsorted(boundaries, duration_N, side="right")
    levels = np.linspace(0.0, 1.0, _LEVELS_OF_A_GROUP)
    members = [group_N == group for group in range(len(boundaries) + 1)]
    return DurationGroups(
        feature=feature,
        centers=tuple(_digits(duration_N[rows_N].mean()) for rows_N in members),
        quantiles=tuple(tuple(map(_digits, np.quantile(label_N[rows_N], levels))) for rows_N in members),
    )


def _first(values: np.ndarray) -> np.ndarray:
    """The encoded number of each row; a flag of what is missing stands behind it."""
    return values.reshape(len(values), -1)[:, 0]


def _digits(value: float) -> float:
    """Nine digits: what float32 holds."""
    return float(f"{value:.9g}")
