"""HoME's feature gate: which parts of its input an expert reads (Wang et al., KDD 2025).

Shapes: ``B`` batch, ``D`` width of the input, ``k`` terms, ``r`` rank.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from onehull.model.seeds import layer_seed


@keras.saving.register_keras_serializable(package="onehull")
class FeatureGate(keras.layers.Layer):
    """``v ⊙ Σ_i g_i(v) · 2σ(v B_i A_i)`` with matrices of low rank; ``(B, D)`` → ``(B, D)``.

    ``g`` is the softmax of a linear function of v; with one term there is nothing to choose, and no ``g``. Every
    factor lies within 0 and 2, and near 1 at the start.

    Args:
        rank: of the matrices ``B_i A_i``.
        terms: how many matrices.
        l2: penalty on the matrices, ``l2 · Σ x²``.
        seed: seed of the initial values, together with the layer's name; None draws one.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, rank: int, terms: int = 2, l2: float = 0.0, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rank, self.terms, self.l2, self.seed = rank, terms, l2, seed
        self._down: Any = None
        self._up: Any = None
        self._choose = keras.layers.Dense(
            terms,
            "softmax",
            kernel_initializer=keras.initializers.GlorotUniform(seed=layer_seed(seed, f"{self.name}/choose")),
            kernel_regularizer=self._penalty(),
            dtype="float32",
            name="choose",
        )

    def _penalty(self) -> keras.regularizers.Regularizer | None:
        return keras.regularizers.L2(self.l2) if self.l2 else None

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        width = input_shape[-1]
        self._down = self._matrices("down", (self.terms, width, self.rank))
        self._up = self._matrices("up", (self.terms, self.rank, width))
        if self.terms > 1:
            self._choose.build(input_shape)
        super().build(input_shape)

    def _matrices(self, name: str, shape: tuple[int, int, int]) -> Any:
        # Small rather than 0: behind a matrix of zeros the other one would get no gradient.
        spread = (1 / shape[1]) ** 0.5
        initial = keras.initializers.RandomNormal(stddev=spread, seed=layer_seed(self.seed, f"{self.name}/{name}"))
        return self.add_weight(shape=shape, initializer=initial, regularizer=self._penalty(), name=name)

    def call(self, inputs: Any) -> Any:
        """Weighs the features of ``(B, D)``."""
        low_kBr = ops.matmul(ops.expand_dims(inputs, 0), self._down)
        factors_kBD = 2 * ops.sigmoid(ops.matmul(low_kBr, self._up))
        if self.terms == 1:
            return inputs * factors_kBD[0]
        chosen_kB1 = ops.expand_dims(ops.transpose(ops.cast(self._choose(inputs), inputs.dtype)), -1)
        return inputs * ops.sum(factors_kBD * chosen_kB1, axis=0)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, D)``."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {"rank": self.rank, "terms": self.terms, "l2": self.l2, "seed": self.seed}
        return {**super().get_config(), **own}
