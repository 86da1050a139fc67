"""Row-wise Adagrad: one accumulator for each row, of the mean squared gradient over its width.

Mudigere et al., "Software-Hardware Co-design for Fast and Scalable Training of Deep Learning Recommendation Models",
ISCA 2022, section 4.1.4; the method of FBGEMM and TorchRec (``EXACT_ROWWISE_ADAGRAD``). It is Adagrad (Duchi, Hazan,
Singer, JMLR 2011) with one step length for a whole row::

    accumulator += mean(gradient²)
    row −= learning_rate · gradient / (√accumulator + epsilon)

As in FBGEMM, the accumulator starts at 0 and epsilon stands outside of the root: the gradient of a row is of the order
of one over the batch size, and Keras' start of 0.1 would outweigh what thousands of steps add to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from onehull.optimizers.embedding_optimizer import EmbeddingOptimizer, Slot
from onehull.optimizers.ranges import at_least


@keras.saving.register_keras_serializable(package="onehull")
class RowwiseAdagrad(EmbeddingOptimizer):
    """Adagrad with one number of memory a row; the default for embeddings.

    Slots: ``accumulator`` ``(R,)``, 4 bytes a row.

    Args:
        learning_rate: a number, a Keras schedule, or a function without arguments.
        initial_accumulator: what each accumulator starts with, at least 0.
        epsilon: added to the root, at least 0.
        **kwargs: of `EmbeddingOptimizer`.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self, learning_rate: Any = 0.01, initial_accumulator: float = 0.0, epsilon: float = 1e-8, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.initial_accumulator = at_least(self, "initial_accumulator", initial_accumulator, 0)
        self.epsilon = at_least(self, "epsilon", epsilon, 0)

    def slots(self, shape: tuple[int, ...]) -> dict[str, Slot]:
        """The accumulator, ``(R,)``."""
        return {"accumulator": Slot(shape[:1], self.initial_accumulator)}

    def move(
        self, values_Ud: tf.Tensor, gradient_Ud: tf.Tensor, slots: Mapping[str, tf.Tensor], learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """One step of each row."""
        width = range(1, gradient_Ud.shape.rank)
        accumulator_U = slots["accumulator"] + tf.reduce_mean(tf.square(gradient_Ud), axis=list(width))
        length_U = tf.math.divide_no_nan(learning_rate, tf.sqrt(accumulator_U) + self.epsilon)
        length_U1 = tf.reshape(length_U, tf.concat([tf.shape(length_U), [1 for _ in width]], axis=0))
        return values_Ud - length_U1 * gradient_Ud, {"accumulator": accumulator_U}

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {"initial_accumulator": self.initial_accumulator, "epsilon": self.epsilon}
        return {**super().get_config(), **own}
