"""Gates: how much of each expert a task takes, row by row.

Shapes: ``B`` batch, ``n`` experts, ``D`` width of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from onehull.model.dense_block import DenseBlock
from onehull.model.experts import require_names
from onehull.model.seeds import layer_seed

_NEVER = -1e9
"""Logit of an expert that is left out."""


@keras.saving.register_keras_serializable(package="onehull")
class Gate(keras.layers.Layer):
    """Softmax of a linear function; ``(B, D)`` → weights ``(B, n)`` that sum to 1, in float32.

    In training, each weight of each row can be dropped, and the rest scaled back to a sum of 1, so that no task comes
    to depend on one expert (Zhao et al., "Recommending What Video to Watch Next", RecSys 2019). Where
    all weights of a row would go, all stay.

    Args:
        names: of the experts, in the order of the weights.
        task: whose gate this is; for reports.
        widths: units of the hidden layers before the softmax; none is one linear layer.
        activation: of the hidden layers, the name of a Keras activation.
        dropout: share of the weights that are dropped in training.
        l2: penalty on the kernels, ``l2 · Σ kernel²``.
        level: which level of a deep mixture this is, counted from the input; for reports.
        seed: seed of the initial kernels and of dropout, together with the layer's name; None draws one.
        **kwargs: of `keras.layers.Layer`; the dtype is float32, because a softmax in half precision has few digits.

    Raises:
        ValueError: there is no expert, or two have one name.
    """

    def __init__(
        self,
        names: Sequence[str],
        task: str = "",
        widths: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.0,
        l2: float = 0.0,
        level: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        require_names(self.name, names)
        self.names, self.task, self.widths, self.level = tuple(names), task, tuple(widths), level
        self.activation, self.dropout, self.l2, self.seed = activation, dropout, l2, seed
        self._hidden = [
            DenseBlock(units, activation, l2=l2, seed=seed, dtype="float32", name=f"{self.name}_{place}")
            for place, units in enumerate(self.widths, start=1)
        ]
        self._dense = keras.layers.Dense(
            len(self.names),
            kernel_initializer=keras.initializers.GlorotUniform(seed=layer_seed(seed, self.name)),
            kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
            dtype="float32",
            name="dense",
        )
        drop_seed = layer_seed(seed, f"{self.name}/dropout")
        self._generator = keras.random.SeedGenerator(drop_seed) if dropout else None

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        shape = input_shape
        for block in self._hidden:
            block.build(shape)
            shape = block.compute_output_shape(shape)
        self._dense.build(shape)
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Weights of the experts for ``(B, D)``."""
        for block in self._hidden:
            inputs = block(inputs, training=training)
        logits_Bn = self._dense(inputs)
        if self._generator is not None and training:
            kept_Bn = keras.random.uniform(ops.shape(logits_Bn), seed=self._generator) >= self.dropout
            kept_Bn = ops.logical_or(kept_Bn, ops.logical_not(ops.any(kept_Bn, axis=-1, keepdims=True)))
            # A softmax over the kept ones is the softmax over all, scaled back; it cannot divide by 0.
            logits_Bn = ops.where(kept_Bn, logits_Bn, _NEVER)
        return ops.softmax(logits_Bn, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, n)``."""
        return (*input_shape[:-1], len(self.names))

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {
            "names": list(self.names), "task": self.task, "widths": list(self.widths), "activation": self.activation,
            "dropout": self.dropout, "l2": self.l2, "level": self.level, "seed": self.seed,
        }  # fmt: skip
        return {**super().get_config(), **own}
