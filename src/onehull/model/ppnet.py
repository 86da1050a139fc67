"""PPNet, the towers' half of PEPNet: Chang et al., KDD 2023.

Shapes: ``B`` batch, ``E`` width of the embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from onehull.model.epnet import Columns, columns_width, take_columns
from onehull.model.gate_nu import GateNU
from onehull.model.tower import Tower


@keras.saving.register_keras_serializable(package="onehull")
class PpNet(Tower):
    """A tower whose hidden units are gated by who and what is shown; ``(B, width_in)`` → ``(B, widths[-1])``.

    ``O_l = δ_l ⊗ H_l`` behind each of its layers, the input of the next layer or of the head, with
    ``δ_l = GateNU([E(user), E(item), …, stop_gradient(E)])``. The first layer's input is not gated here: that is what
    `EpNet` is for. Layers and their first values are those of a `Tower` of the same name.

    Args:
        widths: number of units of each layer; none leaves the input as it is, without a gate.
        columns: where the features that make it personal stand in the embeddings.
        hidden: width of each gate's hidden layer. Default: that of the layer that it gates.
        gamma: largest value of a gate.
        **tower: of `Tower`; ``l2`` is a penalty on the gates' kernels, too.
    """

    def __init__(
        self,
        widths: Sequence[int],
        columns: Columns,
        hidden: int | None = None,
        gamma: float = 2.0,
        **tower: Any,
    ) -> None:
        super().__init__(widths, **tower)
        self.columns = tuple((int(start), int(stop)) for start, stop in columns)
        self.hidden, self.gamma = hidden, gamma
        l2, seed = tower.get("l2", 0.0), tower.get("seed")
        self._gates = [
            GateNU(width, hidden, gamma, l2, seed, dtype=self.dtype_policy, name=f"{self.name}_gate_{index}")
            for index, width in enumerate(self.widths, start=1)
        ]

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        inputs, _, embedded = input_shape
        super().build(inputs)
        for gate in self._gates:
            gate.build((embedded[0], columns_width(self.columns) + embedded[-1]))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Applies the layers and their gates.

        Args:
            inputs: input of the tower ``(B, width_in)``; the embeddings ``(B, E)`` that the personal features are taken
                from; and the embeddings ``(B, E)`` that the gates only see, those behind `EpNet` where there is one.
            training: whether dropout is at work.
        """
        outputs, own, seen = inputs
        prior = ops.concatenate([*take_columns(own, self.columns), ops.stop_gradient(seen)], axis=-1)
        for block, gate in zip(self._blocks, self._gates, strict=True):
            outputs = block(outputs, training=training) * gate(prior)
        return outputs

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, widths[-1])``."""
        return super().compute_output_shape(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {"columns": [list(part) for part in self.columns], "hidden": self.hidden, "gamma": self.gamma}
        return {**super().get_config(), **own}
