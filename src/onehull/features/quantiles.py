"""Boundaries of buckets that hold about equally many values, also where many values are equal."""

from __future__ import annotations

import numpy as np


def equal_frequency_boundaries(values_N: np.ndarray, buckets: int) -> tuple[float, ...]:
    """Lower bounds of all buckets but the first.

    Where no two values are equal these are the quantiles at 1/buckets, 2/buckets, … Ordinary quantiles of a column
    that is mostly zero spend most buckets on the zero; here a value that would fill a bucket alone gets exactly one,
    and the others are divided among the buckets that are left. Every bucket holds at least one of the values.

    Args:
        values_N: finite numbers in any order.
        buckets: the largest number of buckets, at least 1.

    Returns:
        At most ``buckets - 1`` ascending numbers; fewer where there are fewer distinct values.
    """
    distinct_D, counts_D = np.unique(values_N, return_counts=True)
    heavy_D = _heavy(counts_D, buckets)
    before_D = np.concatenate([[0], np.cumsum(counts_D)])
    stops = [*np.flatnonzero(heavy_D).tolist(), len(distinct_D)]
    light = int(counts_D[~heavy_D].sum())
    boundaries: list[float] = []
    start = 0
    for left in range(buckets, 1, -1):
        if start < stops[0]:
            # The run of values up to the next heavy one is divided evenly, so that no scrap of it is left.
            run = int(before_D[stops[0]] - before_D[start])
            shares = max(1, round(run * max(1, left - len(stops) + 1) / light))
            end = max(start + 1, int(np.searchsorted(before_D, before_D[start] + round(run / shares))))
            light -= int(before_D[end] - before_D[start])
        else:
            end = stops.pop(0) + 1
        if end >= len(distinct_D):
            break
        boundaries.append(float(distinct_D[end]))
        start = end
    return tuple(boundaries)


def _heavy(counts_D: np.ndarray, buckets: int) -> np.ndarray:
    """Which values are more frequent than the bucket that they would share with others."""
    heavy_D = np.zeros(len(counts_D), bool)
    while True:
        # Fewer values than there are buckets can be above this mean, so the divisor stays positive.
        target = counts_D[~heavy_D].sum() / (buckets - np.count_nonzero(heavy_D))
        more_D = ~heavy_D & (counts_D > target)
        if not more_D.any():
            return heavy_D
        heavy_D |= more_D
