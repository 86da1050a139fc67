"""A dense layer with what usually follows it: batch normalisation, activation, dropout."""

from __future__ import annotations

from typing import Any

import keras

from onehull.model.replicas import batch_normalization
from onehull.model.seeds import layer_seed


@keras.saving.register_keras_serializable(package="onehull")
class DenseBlock(keras.layers.Layer):
    """Dense → batch normalisation → activation → dropout; ``(B, width_in)`` → ``(B, width)``.

    Args:
        width: number of units.
        activation: name of a Keras activation.
        batch_norm: normalise before the activation.
        dropout: share of units left out in training.
        l2: penalty on the kernel, ``l2 · Σ kernel²``.
        seed: seed of the initial kernel and of dropout, together with the layer's name; None draws one.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self,
        width: int,
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        l2: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.width, self.activation, self.batch_norm = width, activation, batch_norm
        self.dropout, self.l2, self.seed = dropout, l2, seed
        self._dense = keras.layers.Dense(
            width,
            use_bias=not batch_norm,  # the normalisation has a bias of its own
            kernel_initializer=keras.initializers.GlorotUniform(seed=layer_seed(seed, self.name)),
            kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
            dtype=self.dtype_policy,
            name="dense",
        )
        self._norm = batch_normalization(dtype=self.dtype_policy, name="norm") if batch_norm else None
        self._activate = keras.activations.get(activation)
        drop_seed = layer_seed(seed, f"{self.name}/dropout")
        self._drop = (
            keras.layers.Dropout(dropout, seed=drop_seed, dtype=self.dtype_policy, name="dropout") if dropout else None
        )

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        self._dense.build(input_shape)
        if self._norm is not None:
            self._norm.build((*input_shape[:-1], self.width))
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Applies the block to ``(B, width_in)``."""
        outputs = self._dense(inputs)
        if self._norm is not None:
            outputs = self._norm(outputs, training=training)
        outputs = self._activate(outputs)
        return self._drop(outputs, training=training) if self._drop is not None else outputs

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, width)``."""
        return (*input_shape[:-1], self.width)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {
            "width": self.width, "activation": self.activation, "batch_norm": self.batch_norm,
            "dropout": self.dropout, "l2": self.l2, "seed": self.seed,
        }  # fmt: skip
        return {**super().get_config(), **own}
