"""FTRL-Proximal: McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013, algorithm 1.

With the paper's α as the learning rate, and its z multiplied by α::

    grown = accumulator + gradient²
    linear += learning_rate · gradient − (√grown − √accumulator) · row
    accumulator = grown
    row = −shrink(linear, learning_rate · l1) / (beta + √accumulator + learning_rate · l2)

where ``shrink`` moves its argument towards 0, at most to 0: numbers of a row become exactly 0.

Where we differ from the paper:

- z is multiplied by α. With a constant learning rate nothing else changes; under a schedule the paper's form would
  multiply a whole row by the ratio of two learning rates between two steps. Ours is Adagrad under the same schedule
  where l1 and l2 are 0.
- The first values of a row are where it starts, although they are not 0 as the paper has them: before its first step,
  ``linear`` stands for ``−(beta + √initial_accumulator) · row``. Keras' Ftrl forgets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from onehull.optimizers.embedding_optimizer import EmbeddingOptimizer, Slot
from onehull.optimizers.ranges import at_least


@keras.saving.register_keras_serializable(package="onehull")
class FTRL(EmbeddingOptimizer):
    """Follow the regularised leader: Adagrad whose L1 penalty makes exact zeros.

    Slots: ``accumulator`` and ``linear``, ``(R, d)`` each, twice the memory of the table.

    Args:
        learning_rate: a number, a Keras schedule, or a function without arguments; the paper's α.
        beta: added to the root, at least 0; the paper's β.
        l1: L1 penalty, at least 0, on the scale of the summed gradients.
        l2: L2 penalty, at least 0, on the scale of the summed gradients.
        **kwargs: of `EmbeddingOptimizer`.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self, learning_rate: Any = 0.03, beta: float = 1e-8, l1: float = 0.0, l2: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.beta = at_least(self, "beta", beta, 0)
        self.l1, self.l2 = at_least(self, "l1", l1, 0), at_least(self, "l2", l2, 0)

    def slots(self, shape: tuple[int, ...]) -> dict[str, Slot]:
        """The accumulator and the linear part, ``(R, d)``."""
        return {"accumulator": Slot(shape), "linear": Slot(shape)}

    def move(
        self, values_Ud: tf.Tensor, gradient_Ud: tf.Tensor, slots: Mapping[str, tf.Tensor], learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """One step of each row."""
        accumulator_Ud = slots["accumulator"] + tf.square(gradient_Ud)
        root_Ud = tf.sqrt(accumulator_Ud)
        # A number that never had a gradient starts from its first value, whose weight is then beta + root.
        before_Ud = tf.where(slots["accumulator"] > 0, tf.sqrt(slots["accumulator"]), -self.beta)
        linear_Ud = slots["linear"] + learning_rate * gradient_Ud - (root_Ud - before_Ud) * values_Ud
        shrunk_Ud = tf.sign(linear_Ud) * tf.maximum(tf.abs(linear_Ud) - learning_rate * self.l1, 0)
        moved_Ud = -shrunk_Ud / (self.beta + root_Ud + learning_rate * self.l2)
        never_Ud = accumulator_Ud <= 0
        linear_Ud = tf.where(never_Ud, slots["linear"], linear_Ud)
        return tf.where(never_Ud, values_Ud, moved_Ud), {"accumulator": accumulator_Ud, "linear": linear_Ud}

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "beta": self.beta, "l1": self.l1, "l2": self.l2}
