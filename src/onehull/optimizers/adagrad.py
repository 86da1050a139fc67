"""Adagrad: Duchi, Hazan, Singer, "Adaptive Subgradient Methods", JMLR 2011, with the diagonal matrix of figure 1.

For each number of a row::

    accumulator += gradient²
    row −= learning_rate · gradient / (√accumulator + epsilon)

Unlike Keras, the accumulator starts at 0 and epsilon stands outside of the root (as in the paper), for the reason that
`RowwiseAdagrad` gives. With the same start and epsilon 0 both are the same. A gradient of 0 moves nothing, so that
leaving out untouched rows changes no bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from onehull.optimizers.embedding_optimizer import EmbeddingOptimizer, Slot
from onehull.optimizers.ranges import at_least


@keras.saving.register_keras_serializable(package="onehull")
class Adagrad(EmbeddingOptimizer):
    """Adagrad, with a step length for each number of a row.

    Slots: ``accumulator`` ``(R, d)``, as much memory as the table.

    Args:
        learning_rate: a number, a Keras schedule, or a function without arguments.
        initial_accumulator: what each accumulator starts with, at least 0.
        epsilon: added to the root, at least 0.
        **kwargs: of `EmbeddingOptimizer`.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self, learning_rate: Any = 0.03, initial_accumulator: float = 0.0, epsilon: float = 1e-8, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.initial_accumulator = at_least(self, "initial_accumulator", initial_accumulator, 0)
        self.epsilon = at_least(self, "epsilon", epsilon, 0)

    def slots(self, shape: tuple[int, ...]) -> dict[str, Slot]:
        """The accumulator, ``(R, d)``."""
        return {"accumulator": Slot(shape, self.initial_accumulator)}

    def move(
        self, values_Ud: tf.Tensor, gradient_Ud: tf.Tensor, slots: Mapping[str, tf.Tensor], learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """One step of each row."""
        accumulator_Ud = slots["accumulator"] + tf.square(gradient_Ud)
        length_Ud = tf.math.divide_no_nan(learning_rate, tf.sqrt(accumulator_Ud) + self.epsilon)
        return values_Ud - length_Ud * gradient_Ud, {"accumulator": accumulator_Ud}

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {"initial_accumulator": self.initial_accumulator, "epsilon": self.epsilon}
        return {**super().get_config(), **own}
