"""Weighted logistic regression (Covington, Adams, Sargin, RecSys 2016), for every impression at once.

The paper weighs clicked impressions by their watch time and the others by 1, so that the odds are about the expected
watch time. Here each impression counts as a positive of weight T and as a negative of weight 1:
``ℓ = (1 + T) · softplus(z) − T · z``. Its minimum has odds exp(z) = E[T|x] exactly, not approximately as in the paper,
which divides by the negatives alone. T is divided by its mean in training, so that z starts at 0 and the unit of the
label does not matter.

Shapes: ``B`` batch.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from onehull.model.attached import attach, attached
from onehull.model.heads import DenseHead
from onehull.spec.labels import LabelDistribution

_RANGE = 10.0
"""Range of z that is served: a factor of 22,026 below and above the mean."""


@keras.saving.register_keras_serializable(package="onehull")
class WlrHead(DenseHead):
    """Expected duration ``(B, 1)`` as scale · exp(z), the odds of a logistic regression; z is linear, and is clipped.

    It attaches ``logits`` z, which is not clipped, and ``scale``.

    Args:
        scale: mean duration in training, above 0; the head starts there.
        seed: seed of the initial kernel, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, scale: float = 1.0, seed: int | None = None, **kwargs: Any) -> None:
        self.scale = scale
        super().__init__(1, 0.0, seed, **kwargs)

    def call(self, inputs: Any) -> Any:
        """Applies the head to ``(B, width)``."""
        logits_B1 = self._dense(inputs)
        prediction = self.scale * ops.exp(ops.clip(logits_B1, -_RANGE, _RANGE))
        return attach(prediction, logits=logits_B1, scale=self.scale)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "scale": self.scale, "seed": self.seed}


@keras.saving.register_keras_serializable(package="onehull")
class WlrLoss(keras.losses.Loss):
    """Logistic loss of T positives and one negative, on what `WlrHead` attaches; labels below 0 are taken as 0."""

    def __init__(self, name: str = "wlr_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Losses ``(B,)`` of ``(B, 1)``; the gradient by z, (1 + T) σ(z) − T, is finite for any z."""
        logits_B1, scale = (attached(y_pred, name, "WlrHead") for name in ("logits", "scale"))
        true_B1 = ops.maximum(y_true, 0.0) / scale
        return ops.squeeze((1.0 + true_B1) * ops.softplus(logits_B1) - true_B1 * logits_B1, -1)


def wlr_head(labels: LabelDistribution, *, name: str, seed: int | None) -> WlrHead:
    """A head that starts at the mean label."""
    return WlrHead(labels.mean or 1.0, seed, name=name)
