"""AdaTT's residual: a task's own experts beside what its gate mixes (Li et al., KDD 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from onehull.model.seeds import layer_seed


@keras.saving.register_keras_serializable(package="onehull")
class OwnExperts(keras.layers.Layer):
    """Adds a learned linear combination of a task's own experts; ``(B, d)`` and ``(B, m, d)`` → ``(B, d)``.

    A single own expert is added as it is. The weights of several are the same for all rows, and start uniform within
    ±√(1/m), as in the authors' code.

    Args:
        seed: seed of the initial weights, together with the layer's name; None draws one.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self._weights: Any = None

    def build(self, input_shape: Any) -> None:
        """Makes the weights ``(m,)`` of several experts."""
        count = input_shape[1][1]
        if count > 1:
            reach = (1 / count) ** 0.5
            initial = keras.initializers.RandomUniform(-reach, reach, seed=layer_seed(self.seed, self.name))
            self._weights = self.add_weight(shape=(count,), initializer=initial, name="weights")
        super().build(input_shape)

    def call(self, inputs: Sequence[Any]) -> Any:
        """Adds the own experts to the mixture."""
        mixed_Bd, own_Bmd = inputs
        if self._weights is None:
            return mixed_Bd + ops.squeeze(own_Bmd, 1)
        return mixed_Bd + ops.sum(own_Bmd * self._weights[:, None], axis=1)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, d)``."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "seed": self.seed}
