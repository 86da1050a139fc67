"""The weights that a balancer gave, for the log.

Shapes: ``T`` tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf


class TaskWeights(keras.metrics.Metric):
    """Mean weight of each task since the last reset, over the batches that had its labels.

    One metric for all tasks, whose result is a dict: a mean for each of many tasks would cost more than the balancer.

    Args:
        tasks: names of the tasks.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(name="task_weights")
        self.tasks = tuple(tasks)
        self._sum_T = self.add_variable((len(self.tasks),), initializer="zeros", name="weights")
        self._count_T = self.add_variable((len(self.tasks),), initializer="zeros", name="batches")

    def update_state(self, weights_T: tf.Tensor, active_T: tf.Tensor) -> None:
        """Takes in one step."""
        self._sum_T.assign_add(tf.where(active_T, tf.cast(weights_T, tf.float32), 0.0))
        self._count_T.assign_add(tf.cast(active_T, tf.float32))

    def result(self) -> dict[str, tf.Tensor]:
        """``TASK_weight`` of every task; 0 for one that had no labels."""
        mean_T = tf.math.divide_no_nan(tf.convert_to_tensor(self._sum_T), tf.convert_to_tensor(self._count_T))
        return {f"{task}_weight": mean for task, mean in zip(self.tasks, tf.unstack(mean_T), strict=True)}
