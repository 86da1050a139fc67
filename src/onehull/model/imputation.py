"""The error that a prediction is expected to make, for doubly robust losses: it travels with the prediction."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from onehull.model.attached import attach
from onehull.model.seeds import layer_seed


@keras.saving.register_keras_serializable(package="onehull")
class WithImputation(keras.layers.Layer):
    """Predicts a task's loss from its representation, and attaches it to the task's prediction as ``imputed_loss``.

    The result is the prediction itself, so that Keras still finds the logits behind it, and the imputed loss is no
    output of the model: what is exported does not compute it. It is a softplus of a linear function: a log loss is at
    least 0 and has no upper bound, which the sigmoid of PaddleRec's ESCM² imposes.

    Args:
        seed: seed of the initial kernel, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.seed = seed
        self._dense = keras.layers.Dense(
            1,
            kernel_initializer=keras.initializers.GlorotUniform(seed=layer_seed(seed, self.name)),
            dtype="float32",
            name="dense",
        )

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        self._dense.build(input_shape[1])
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Takes a prediction ``(B, 1)`` and a representation ``(B, width)``; returns the same prediction."""
        prediction, hidden = inputs
        return attach(prediction, imputed_loss=ops.softplus(self._dense(hidden)))

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, 1)``."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "seed": self.seed}
