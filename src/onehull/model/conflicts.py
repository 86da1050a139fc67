"""The conflict matrix: cosines between the tasks' gradients, averaged over training.

Shapes: ``T`` tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from onehull.balance import Stats


class Conflicts(keras.metrics.Metric):
    """Mean cosine of each pair of tasks since the last reset, over the batches that had labels of both.

    It stands among a model's metrics to be reset with them, and adds nothing to the log: T² numbers are a table, not
    a line.

    Args:
        tasks: names of the tasks.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(name="conflicts")
        self.tasks = tuple(tasks)
        shape = (len(self.tasks), len(self.tasks))
        self._sum_TT = self.add_variable(shape, initializer="zeros", name="cosines")
        self._count_TT = self.add_variable(shape, initializer="zeros", name="batches")

    def update_state(self, stats: Stats) -> None:
        """Takes in the Gram matrix of one step; a task without labels or with a gradient of 0 has no cosines."""
        norms_T = tf.sqrt(tf.maximum(tf.linalg.diag_part(stats.gram_TT), 0.0))
        products_TT = norms_T[:, tf.newaxis] * norms_T[tf.newaxis, :]
        defined_TT = (products_TT > 0) & tf.math.is_finite(stats.gram_TT)
        cosines_TT = stats.gram_TT / tf.where(defined_TT, products_TT, 1.0)
        self._sum_TT.assign_add(tf.where(defined_TT, cosines_TT, 0.0))
        self._count_TT.assign_add(tf.cast(defined_TT, tf.float32))

    def matrix(self) -> np.ndarray:
        """Mean cosines ``(T, T)``; NaN for a pair that never had labels in the same batch."""
        total, count = np.asarray(self._sum_TT), np.asarray(self._count_TT)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def result(self) -> dict[str, Any]:
        """Nothing for the log."""
        return {}
