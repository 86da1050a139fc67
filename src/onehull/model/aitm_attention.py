"""The attention of AITM between what a task has learned and what the task before it hands on.

Shapes: ``B`` batch, ``d`` width, ``2`` the two vectors.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from onehull.model.seeds import layer_seed


@keras.saving.register_keras_serializable(package="onehull")
class AitmAttention(keras.layers.Layer):
    """``z = Σ_u softmax_u(⟨h₁(u), h₂(u)⟩ / √d) · h₃(u)`` over u ∈ {p, q}; twice ``(B, d)`` → ``(B, d)``.

    h₁, h₂ and h₃ are ``d × d`` matrices without bias (the AIT module; Xi et al., KDD 2021).

    Args:
        seed: seed of the matrices, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        """Makes the matrices."""
        width = input_shape[0][-1]
        self._matrices = [
            self.add_weight(
                name=name,
                shape=(width, width),
                initializer=keras.initializers.GlorotUniform(seed=layer_seed(self.seed, f"{self.name}/{name}")),
            )
            for name in ("h1", "h2", "h3")
        ]
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Mixes ``(handed on, own)``."""
        both_B2d = ops.stack(inputs, axis=1)
        first_B2d, second_B2d, value_B2d = (ops.matmul(both_B2d, matrix) for matrix in self._matrices)
        scores_B2 = ops.sum(first_B2d * second_B2d, axis=-1) / both_B2d.shape[-1] ** 0.5
        return ops.sum(ops.softmax(scores_B2, axis=-1)[..., None] * value_B2d, axis=1)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, d)``."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "seed": self.seed}
