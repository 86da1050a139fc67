"""EPNet, the embeddings' half of PEPNet: Chang et al., KDD 2023.

Shapes: ``B`` batch, ``E`` width of the embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from onehull.model.gate_nu import GateNU

Columns = Sequence[tuple[int, int]]
"""Parts of an embedded input: first column, and the one after the last."""


@keras.saving.register_keras_serializable(package="onehull")
class EpNet(keras.layers.Layer):
    """``O = GateNU([E(domain), stop_gradient(E)]) ⊗ E``; ``(B, E)`` → ``(B, E)``.

    The gates see the embeddings without moving them; the domain's own embeddings learn through the gates, too.

    Args:
        columns: where the domain's features stand in the embeddings.
        hidden: width of the gate's hidden layer. Default: E.
        gamma: largest value of a gate.
        l2: penalty on the gate's kernels.
        seed: seed of the gate, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self,
        columns: Columns,
        hidden: int | None = None,
        gamma: float = 2.0,
        l2: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.columns = tuple((int(start), int(stop)) for start, stop in columns)
        self._gates = {"hidden": hidden, "gamma": gamma, "l2": l2, "seed": seed}

    def build(self, input_shape: Any) -> None:
        """Makes the gate, whose width is that of the embeddings."""
        width = input_shape[-1]
        name = f"{self.name}_gate"
        self._gate = GateNU(width, **self._gates, dtype=self.dtype_policy, name=name)  # type: ignore[arg-type]
        self._gate.build((input_shape[0], columns_width(self.columns) + width))
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Gates embeddings ``(B, E)``."""
        domain = take_columns(inputs, self.columns)
        return inputs * self._gate(ops.concatenate([*domain, ops.stop_gradient(inputs)], axis=-1))

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, E)``."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "columns": [list(part) for part in self.columns], **self._gates}


def take_columns(embedded: Any, columns: Columns) -> list[Any]:
    """Parts ``(B, stop - start)`` of embeddings ``(B, E)``."""
    return [embedded[:, start:stop] for start, stop in columns]


def columns_width(columns: Columns) -> int:
    """How many columns there are in all."""
    return sum(stop - start for start, stop in columns)
