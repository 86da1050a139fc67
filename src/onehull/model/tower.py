"""A tower: the hidden layers of one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from onehull.model.dense_block import DenseBlock


@keras.saving.register_keras_serializable(package="onehull")
class Tower(keras.layers.Layer):
    """A stack of `DenseBlock`; ``(B, width_in)`` → ``(B, widths[-1])``.

    The blocks are named ``NAME_1``, ``NAME_2``, … after the tower.

    Args:
        widths: number of units of each layer; none leaves the input as it is.
        activation: name of a Keras activation.
        batch_norm: normalise before each activation.
        dropout: share of units left out in training after each layer.
        l2: penalty on each kernel.
        seed: seed of the initial kernels and of dropout, together with the layers' names.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        l2: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.widths = tuple(widths)
        self._block = {
            "activation": activation, "batch_norm": batch_norm, "dropout": dropout, "l2": l2, "seed": seed,
        }  # fmt: skip
        self._blocks = [
            DenseBlock(width, **self._block, dtype=self.dtype_policy, name=f"{self.name}_{index}")  # type: ignore[arg-type]
            for index, width in enumerate(self.widths, start=1)
        ]

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        shape = input_shape
        for block in self._blocks:
            block.build(shape)
            shape = block.compute_output_shape(shape)
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Applies the layers to ``(B, width_in)``."""
        outputs = inputs
        for block in self._blocks:
            outputs = block(outputs, training=training)
        return outputs

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, widths[-1])``."""
        return (*input_shape[:-1], self.widths[-1]) if self.widths else tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "widths": list(self.widths), **self._block}
