"""Which feature values are missing, and which training never saw: what the monitors count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onehull.spec.inputs import MISSING_ID, UNSEEN_ID


@dataclass(frozen=True)
class Presence:
    """Missing and unseen values of N rows and F features.

    Attributes:
        features: names, F.
        missing_NF: 1 where a value is missing.
        unseen_NF: share of a row's ids that training never saw (0 or 1 but for lists); 0 without a vocabulary.
    """

    features: tuple[str, ...]
    missing_NF: NDArray[np.float32]
    unseen_NF: NDArray[np.float32]

    @classmethod
    def measure(
        cls,
        raw: Mapping[str, Sequence[Any]],
        encoded: Mapping[str, NDArray[Any]],
        features: Sequence[str],
        unseen_in: Sequence[str],
        count: int,
    ) -> Presence:
        """Measures rows.

        Args:
            raw: raw values by feature.
            encoded: the same rows as ids, by feature.
            features: which features.
            unseen_in: features with a vocabulary; hashed ids and numbers cannot be unseen.
            count: rows.
        """
        missing = np.zeros((count, len(features)), dtype=np.float32)
        unseen = np.zeros_like(missing)
        for column, name in enumerate(features):
            missing[:, column] = [is_missing(value) for value in raw[name]]
            if name in unseen_in:
                unseen[:, column] = _unseen_share(encoded[name])
        return cls(tuple(features), missing, unseen)

    def row(self, number: int) -> Presence:
        """One row alone."""
        here = slice(number, number + 1)
        return Presence(self.features, self.missing_NF[here], self.unseen_NF[here])

    def beside(self, other: Presence) -> Presence:
        """The same rows with the features of both."""
        return Presence(
            (*self.features, *other.features),
            np.concatenate([self.missing_NF, other.missing_NF], axis=1),
            np.concatenate([self.unseen_NF, other.unseen_NF], axis=1),
        )

    def total(self, rows: NDArray[np.int64] | None = None, repeat: int = 1) -> tuple[Counts, Counts]:
        """Sums over some rows (default all), each counted `repeat` times: missing and unseen."""
        missing, unseen = (table if rows is None else table[rows] for table in (self.missing_NF, self.unseen_NF))
        return missing.sum(axis=0, dtype=np.float64) * repeat, unseen.sum(axis=0, dtype=np.float64) * repeat


Counts = NDArray[np.float64]


def is_missing(value: Any) -> bool:
    """Whether a raw value is missing: null, an empty list, or NaN."""
    return value is None or value == [] or value != value  # noqa: PLR0124  NaN is not itself


def _unseen_share(ids: NDArray[Any]) -> NDArray[np.float32]:
    if ids.ndim == 1:
        return (ids == UNSEEN_ID).astype(np.float32)
    present = np.maximum((ids != MISSING_ID).sum(axis=1), 1)
    return ((ids == UNSEEN_ID).sum(axis=1) / present).astype(np.float32)
