"""Gradient descent with momentum: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.

For each row that a batch looks up::

    velocity = momentum · velocity − learning_rate · gradient
    row += velocity

The velocity of a row that was not looked up stands still, and so does the row; in Keras' SGD both go on. A rare row
goes on in the direction of its last look-up, perhaps long ago: momentum is for tables whose rows come often. If all
rows are looked up at each step, or without momentum, this is Keras' SGD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from onehull.optimizers.embedding_optimizer import EmbeddingOptimizer, Slot
from onehull.optimizers.ranges import below_one


@keras.saving.register_keras_serializable(package="onehull")
class SGD(EmbeddingOptimizer):
    """Gradient descent, with momentum where asked. Its rates are large: gradients are of the order of 1 / batch size.

    Slots: ``velocity`` ``(R, d)``, as much memory as the table; none without momentum.

    Args:
        learning_rate: a number, a Keras schedule, or a function without arguments.
        momentum: how much of the velocity is kept, in [0, 1).
        **kwargs: of `EmbeddingOptimizer`.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(self, learning_rate: Any = 10.0, momentum: float = 0.0, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.momentum = below_one(self, "momentum", momentum)

    def slots(self, shape: tuple[int, ...]) -> dict[str, Slot]:
        """The velocity, ``(R, d)``."""
        return {"velocity": Slot(shape)} if self.momentum else {}

    def move(
        self, values_Ud: tf.Tensor, gradient_Ud: tf.Tensor, slots: Mapping[str, tf.Tensor], learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """One step of each row."""
        step_Ud = learning_rate * gradient_Ud
        if not self.momentum:
            return values_Ud - step_Ud, {}
        velocity_Ud = self.momentum * slots["velocity"] - step_Ud
        return values_Ud + velocity_Ud, {"velocity": velocity_Ud}

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "momentum": self.momentum}
