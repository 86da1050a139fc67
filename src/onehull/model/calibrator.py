"""The calibrator of AITM (Xi et al., KDD 2021): a later step is no more probable than the step before it.

Shapes: ``B`` batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="onehull")
class MonotoneCalibrator(keras.layers.Layer):
    """Adds ``weight · Σ_t mean_B max(0, p_t − p_{t−1})`` to the loss in training; a dict of predictions stays as it is.

    The results are the very tensors that came in, so that Keras still finds the logits behind them.

    Args:
        order: tasks from the first step to the last, all of them probabilities of the same rows: P(buy) and P(click),
            not P(buy | click).
        weight: λ.
        **kwargs: of `keras.layers.Layer`.
    """

    returns_its_inputs = True
    """Each output is the input of the same place; what a task depends on does not grow by passing here."""

    def __init__(self, order: Sequence[str], weight: float = 0.6, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.order, self.weight = tuple(order), weight

    def call(self, predictions: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """Takes a dict of predictions ``(B, 1)``, and returns the same."""
        if training and self.weight:
            for before, task in pairwise(self.order):
                rise_B1 = ops.relu(predictions[task] - predictions[before])
                self.add_loss(self.weight * ops.mean(rise_B1))
        return dict(predictions)

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> dict[str, Any]:
        """The shapes of the predictions."""
        return dict(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "order": list(self.order), "weight": self.weight}
