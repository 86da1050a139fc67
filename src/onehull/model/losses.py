"""Losses that Keras lacks."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="onehull")
class Log1pLoss(keras.losses.Loss):
    """A loss between log(1 + y) and log(1 + ŷ), for labels and predictions on their own scale, both above −1.

    Its gradient with respect to z = log(1 + ŷ), which `RegressionHead` turns into ŷ, is that of the loss on z.

    Args:
        kind: ``mse`` or ``huber``.
        delta: where Huber turns from squared to linear, on the log scale.
        **kwargs: of `keras.losses.Loss`.
    """

    def __init__(
        self, kind: Literal["mse", "huber"] = "mse", delta: float = 1.0, name: str = "log1p_loss", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.kind, self.delta = kind, delta

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Losses ``(B,)`` of ``(B, 1)``."""
        true, predicted = ops.log1p(y_true), ops.log1p(y_pred)
        if self.kind == "mse":
            return ops.mean(ops.square(true - predicted), axis=-1)
        return keras.losses.huber(true, predicted, delta=self.delta)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "kind": self.kind, "delta": self.delta}
