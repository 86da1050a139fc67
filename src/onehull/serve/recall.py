"""Candidates for a request that names none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Recall = Callable[[str, int], NDArray[np.int64]]
"""(user id, how many) → rows of the catalogue, at most that many. Nearest neighbours fit in here as well."""


def most_popular(popularity_N: NDArray[np.float64], id_order_N: NDArray[np.int64]) -> Recall:
    """Recalls the items that training showed most often, the same for every user.

    Args:
        popularity_N: share of training impressions of each item.
        id_order_N: place of each item's id in the order of ids, which decides between equals.
    """
    order_N = np.lexsort((id_order_N, -popularity_N)).astype(np.int64)

    def recall(user: str, count: int) -> NDArray[np.int64]:  # noqa: ARG001  popularity knows no user
        return order_N[:count]

    return recall
