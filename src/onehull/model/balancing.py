"""A balancer at work in a model: its state in variables, its weights in the log.

Shapes: ``T`` tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from onehull.balance import Balancer, Stats


class Balancing:
    """Applies a pure balancer step by step.

    Args:
        balancer: the method.
        tasks: names of the tasks.
    """

    def __init__(self, balancer: Balancer, tasks: Sequence[str]) -> None:
        self.balancer = balancer
        # Variables of TensorFlow, not of Keras: they belong to training, not to the saved model.
        self.variables: dict[str, Any] = {
            f"balancer_{name}": tf.Variable(value, trainable=False, name=f"balancer_{name}")
            for name, value in balancer.init(len(tasks)).items()
        }
        self.trackers = [keras.metrics.Mean(name=f"{task}_weight") for task in tasks]
        """Mean weight of each task since the last reset, over the batches that had its labels."""

    def weigh(self, stats: Stats) -> tf.Tensor:
        """Weights ``(T,)`` of this step; moves the state on.

        A step whose statistics are not finite (an overflow that mixed precision skips, or a loss that is about to
        be reported) leaves the state as it was and weighs every task 1.
        """
        state = {name.removeprefix("balancer_"): variable.value() for name, variable in self.variables.items()}
        finite = tf.reduce_all(tf.math.is_finite(stats.losses_T))
        if stats.gram_TT is not None:
            finite &= tf.reduce_all(tf.math.is_finite(stats.gram_TT))
        weights_T, new_state = self.balancer.update(stats, state)
        for name, variable in self.variables.items():
            key = name.removeprefix("balancer_")
            variable.assign(tf.where(finite, new_state[key], state[key]))
        weights_T = tf.stop_gradient(tf.where(finite, weights_T, tf.ones_like(weights_T)))
        for index, tracker in enumerate(self.trackers):
            tracker.update_state(weights_T[index], sample_weight=tf.cast(stats.active_T[index], tf.float32))
        return weights_T
