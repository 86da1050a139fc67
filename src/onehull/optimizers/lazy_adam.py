"""Lazy Adam: Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, on the rows that a batch looks up.

With t the number of this step of the optimizer, from 1::

    first = beta_1 · first + (1 − beta_1) · gradient
    second = beta_2 · second + (1 − beta_2) · gradient²
    row −= learning_rate · √(1 − beta_2ᵗ) / (1 − beta_1ᵗ) · first / (√second + epsilon)

Adam itself moves a row for many steps after its last look-up, because its moments fade slowly; doing so costs a pass
over the whole table at each step. Here the moments of a row that was not looked up stand still, so a rare row keeps
the direction of the last time. If all rows are looked up at each step, this is Keras' Adam.

t counts the steps of the optimizer, as in TensorFlow Addons' LazyAdam, and not those of the row: a row that is looked
up for the first time late in training moves by (1 − beta_1) / √(1 − beta_2) learning rates, 3.2 with the defaults,
where a count of its own would move it by 1. It would cost 4 bytes a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from onehull.optimizers.embedding_optimizer import EmbeddingOptimizer, Slot
from onehull.optimizers.ranges import at_least, below_one


@keras.saving.register_keras_serializable(package="onehull")
class LazyAdam(EmbeddingOptimizer):
    """Adam, with moments that stand still for rows that are not looked up.

    Slots: ``first`` and ``second`` moment, ``(R, d)`` each, twice the memory of the table.

    Args:
        learning_rate: a number, a Keras schedule, or a function without arguments.
        beta_1: how much of the first moment is kept, in [0, 1).
        beta_2: how much of the second moment is kept, in [0, 1).
        epsilon: added to the root, at least 0.
        **kwargs: of `EmbeddingOptimizer`.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        learning_rate: Any = 3e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.beta_1, self.beta_2 = below_one(self, "beta_1", beta_1), below_one(self, "beta_2", beta_2)
        self.epsilon = at_least(self, "epsilon", epsilon, 0)

    def slots(self, shape: tuple[int, ...]) -> dict[str, Slot]:
        """Both moments, ``(R, d)``."""
        return {"first": Slot(shape), "second": Slot(shape)}

    def move(
        self, values_Ud: tf.Tensor, gradient_Ud: tf.Tensor, slots: Mapping[str, tf.Tensor], learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """One step of each row."""
        number = tf.cast(self.iterations.value + 1, tf.float32)
        first_Ud = self.beta_1 * slots["first"] + (1 - self.beta_1) * gradient_Ud
        second_Ud = self.beta_2 * slots["second"] + (1 - self.beta_2) * tf.square(gradient_Ud)
        length = learning_rate * tf.sqrt(1 - self.beta_2**number) / (1 - self.beta_1**number)
        moved_Ud = values_Ud - tf.math.divide_no_nan(length * first_Ud, tf.sqrt(second_Ud) + self.epsilon)
        return moved_Ud, {"first": first_Ud, "second": second_Ud}

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {**super().get_config(), **own}
