"""The cross-stitch unit of one task: what its next layer reads from the layers of all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="onehull")
class CrossStitchUnit(keras.layers.Layer):
    """Weighted sum of the tasks' layers with one learned weight a task; T tensors ``(B, d)`` → ``(B, d)``.

    Args:
        first: initial weight of each tensor.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: there is no initial weight.
    """

    def __init__(self, first: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not first:
            raise ValueError(f"{self.name}.first must hold one initial weight a task. Received {list(first)!r}.")
        self.first = tuple(first)
        self._weights: Any = None

    def build(self, input_shape: Any) -> None:
        """Makes the weights ``(T,)``."""
        self._weights = self.add_weight(shape=(len(self.first),), initializer=self._initial_weights, name="weights")
        super().build(input_shape)

    def _initial_weights(self, shape: Any, dtype: Any = None) -> Any:
        return ops.reshape(ops.convert_to_tensor(self.first, dtype), shape)

    def call(self, inputs: Sequence[Any]) -> Any:
        """Mixes the tensors of a list."""
        return ops.sum(ops.stack(inputs, axis=-1) * self._weights, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, d)``."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "first": list(self.first)}
