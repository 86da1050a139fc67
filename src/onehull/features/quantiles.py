"""Boundaries of buckets that hold about equally many values, also where many values are equal."""

from __future__ import annotations

import numpy as np


def equal_frequency_boundaries(ascending_N: np.ndarray, buckets: int) -> tuple[float, ...]:
    """Lower bounds of all buckets but the first.

    Where no two values are equal these are the quantiles at 1/buckets, 2/buckets, … A value so frequent that it
    fills several buckets gets one of its own, and what is left is divided among the buckets that are left: ordinary
    quantiles would spend them all on that value. Every bucket holds at least one of the values.

    Args:
        ascending_N: finite numbers in ascending order.
        buckets: the largest number of buckets, at least 1.

    Returns:
        At most ``buckets - 1`` ascending numbers; fewer where there are fewer distinct values.
    """
    boundaries: list[float] = []
    start, total = 0, len(ascending_N)
    for left in range(buckets, 1, -1):
        if start >= total:
            break
        last = start + max(1, round((total - start) / left)) - 1
        start = int(np.searchsorted(ascending_N, ascending_N[last], side="right"))
        if start < total:
            boundaries.append(float(ascending_N[start]))
    return tuple(boundaries)
