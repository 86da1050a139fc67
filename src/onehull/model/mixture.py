"""What a task takes from its experts.

Shapes: ``B`` batch, ``n`` experts of one stack, ``N`` of all stacks, ``d`` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="onehull")
class Mixture(keras.layers.Layer):
    """Weighted sum of experts; stacks ``(B, n, d)`` and weights ``(B, N)`` → ``(B, d)``.

    Args:
        stopped: places of the stacks that pass forward only: their experts learn nothing from this mixture.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, stopped: Sequence[int] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stopped = tuple(stopped)

    def call(self, inputs: Sequence[Any]) -> Any:
        """Mixes the stacks of a list whose last entry is the weights."""
        *stacks, weights_BN = inputs
        parts = [ops.stop_gradient(part) if place in self.stopped else part for place, part in enumerate(stacks)]
        experts_BNd = parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=1)
        return ops.squeeze(ops.matmul(ops.expand_dims(weights_BN, 1), experts_BNd), 1)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, d)``."""
        return (input_shape[0][0], input_shape[0][-1])

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "stopped": list(self.stopped)}
