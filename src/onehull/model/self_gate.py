"""HoME's self gate: a way past the mixture for a task's own experts (Wang et al., KDD 2025).

Shapes: ``B`` batch, ``m`` own experts, ``d`` width, ``D`` width of what the gate reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from onehull.model.seeds import layer_seed


@keras.saving.register_keras_serializable(package="onehull")
class SelfGate(keras.layers.Layer):
    """``mixed + Σ_i s_i(v) · own_i``; ``(B, d)``, ``(B, m, d)`` and ``v (B, D)`` → ``(B, d)``.

    s is the sigmoid of a linear function of v for a single own expert, the softmax for several. It keeps the own
    experts of a task with few labels learning while its gate leans on the shared ones.

    Args:
        l2: penalty on the kernel, ``l2 · Σ kernel²``.
        seed: seed of the initial kernel, together with the layer's name; None draws one.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, l2: float = 0.0, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.l2, self.seed = l2, seed
        self._dense: Any = None

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        _, own, read = input_shape
        self._dense = keras.layers.Dense(
            own[1],
            "sigmoid" if own[1] == 1 else "softmax",
            kernel_initializer=keras.initializers.GlorotUniform(seed=layer_seed(self.seed, self.name)),
            kernel_regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            dtype="float32",
            name="dense",
        )
        self._dense.build(read)
        super().build(input_shape)

    def call(self, inputs: Sequence[Any]) -> Any:
        """Adds the own experts to the mixture."""
        mixed_Bd, own_Bmd, read_BD = inputs
        shares_Bm1 = ops.expand_dims(ops.cast(self._dense(read_BD), own_Bmd.dtype), -1)
        return mixed_Bd + ops.sum(own_Bmd * shares_Bm1, axis=1)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, d)``."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "l2": self.l2, "seed": self.seed}
