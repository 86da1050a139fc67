"""Gate NU, the gate of PEPNet.

Chang et al., "PEPNet: Parameter and Embedding Personalized Network for Infusing with Personalized Prior Information",
KDD 2023.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from onehull.model.seeds import layer_seed


@keras.saving.register_keras_serializable(package="onehull")
class GateNU(keras.layers.Layer):
    """``γ · sigmoid(W₂ relu(W₁ x + b₁) + b₂)``; ``(B, width_in)`` → ``(B, width)``, each between 0 and γ.

    The last kernel starts at 0 and its bias where the sigmoid is 1 / γ, so that every gate starts at 1: a model with
    gates starts as the model without them. The paper does not say where gates start.

    Args:
        width: number of gates.
        hidden: units of the hidden layer. Default: ``width``.
        gamma: largest value of a gate, above 1.
        l2: penalty on both kernels, ``l2 · Σ kernel²``.
        seed: seed of the first kernel, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: gamma is not above 1.
    """

    def __init__(
        self,
        width: int,
        hidden: int | None = None,
        gamma: float = 2.0,
        l2: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not gamma > 1:
            raise ValueError(f"gamma must be above 1, so that a gate can start at 1. Received {gamma!r}.")
        self.width, self.hidden, self.gamma, self.l2, self.seed = width, hidden, gamma, l2, seed
        regularizer = keras.regularizers.L2(l2) if l2 else None
        self._first = keras.layers.Dense(
            hidden or width,
            "relu",
            kernel_initializer=keras.initializers.GlorotUniform(seed=layer_seed(seed, self.name)),
            kernel_regularizer=regularizer,
            dtype=self.dtype_policy,
            name="hidden",
        )
        self._last = keras.layers.Dense(
            width,
            kernel_initializer="zeros",
            bias_initializer=keras.initializers.Constant(-math.log(gamma - 1)),
            kernel_regularizer=regularizer,
            dtype=self.dtype_policy,
            name="gates",
        )

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        self._first.build(input_shape)
        self._last.build(self._first.compute_output_shape(input_shape))
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Gates for ``(B, width_in)``."""
        return self.gamma * ops.sigmoid(self._last(self._first(inputs)))

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, width)``."""
        return (*input_shape[:-1], self.width)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {"width": self.width, "hidden": self.hidden, "gamma": self.gamma, "l2": self.l2, "seed": self.seed}
        return {**super().get_config(), **own}
