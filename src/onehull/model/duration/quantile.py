"""Conditional quantiles that cannot cross, and their mean (CQE; Lin et al., 2024, arXiv 2407.12223).

``q_k = Σ_{j ≤ k} s_j · softplus(z_j)``: each quantile is the one before plus something positive. Learned with the
pinball loss ``max(τ (T − q), (τ − 1)(T − q))``; the expectation is the trapezoidal sum of q over τ.

Where we differ from the paper: the steps s_j are those of the quantiles of the training labels, so that the head
starts at them and the unit does not matter; and the interval above the last level, in which a heavy tail may hold a
third of the mean, counts as the last quantile times a factor with which the training quantiles give the training mean.

Shapes: ``B`` batch, ``K`` levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from onehull.model.attached import attach, attached
from onehull.model.heads import DenseHead
from onehull.spec.labels import LabelDistribution

_SOFTPLUS_ONE = 0.5413248546129181
"""softplus(this) = 1."""
_SMALLEST_STEP = 1e-3
"""Of a step, as a share of the mean label; where many labels are equal, training quantiles do not move."""


@keras.saving.register_keras_serializable(package="onehull")
class QuantileHead(DenseHead):
    """Expected duration ``(B, 1)`` as a weighted sum of K quantiles.

    It attaches ``quantiles`` ``(B, K)``, ``levels`` ``(K,)`` and ``scale``.

    Args:
        levels: ascending, between 0 and 1, ``(K,)``.
        steps: from each quantile to the next at the start, the first from 0, ``(K,)``, above 0.
        weights: of each quantile in the expectation, ``(K,)``.
        scale: what a pinball loss of 1 is: the mean duration in training.
        seed: seed of the initial kernel, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self,
        levels: Sequence[float],
        steps: Sequence[float],
        weights: Sequence[float],
        scale: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not len(levels) == len(steps) == len(weights):
            found = (len(levels), len(steps), len(weights))
            raise ValueError(f"levels, steps and weights must be as many. Received {found}.")
        self.levels, self.steps, self.weights_of_levels = list(levels), list(steps), list(weights)
        self.scale = scale
        super().__init__(len(self.levels), _SOFTPLUS_ONE, seed, **kwargs)

    def call(self, inputs: Any) -> Any:
        """Applies the head to ``(B, width)``."""
        steps_BK = ops.softplus(self._dense(inputs)) * ops.convert_to_tensor(self.steps, "float32")
        # A product with a triangle is a cumulative sum that every exported form knows.
        quantiles_BK = ops.matmul(steps_BK, ops.convert_to_tensor(np.triu(np.ones((len(self.steps),) * 2)), "float32"))
        weights_K1 = ops.expand_dims(ops.convert_to_tensor(self.weights_of_levels, "float32"), -1)
        levels_K = ops.convert_to_tensor(self.levels, "float32")
        prediction = ops.matmul(quantiles_BK, weights_K1)
        return attach(prediction, quantiles=quantiles_BK, levels=levels_K, scale=self.scale)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, 1)``."""
        return (*input_shape[:-1], 1)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {"levels": self.levels, "steps": self.steps, "weights": self.weights_of_levels, "scale": self.scale}
        return {**super().get_config(), **own, "seed": self.seed}


@keras.saving.register_keras_serializable(package="onehull")
class PinballLoss(keras.losses.Loss):
    """Mean pinball loss over the levels, in units of the mean label, on what `QuantileHead` attaches."""

    def __init__(self, name: str = "pinball_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Losses ``(B,)`` of ``(B, 1)``."""
        quantiles_BK, levels_K, scale = (
            attached(y_pred, name, "QuantileHead") for name in ("quantiles", "levels", "scale")
        )
        above_BK = y_true - quantiles_BK
        return ops.mean(ops.maximum(levels_K * above_BK, (levels_K - 1.0) * above_BK), axis=-1) / scale


def quantile_head(labels: LabelDistribution, *, name: str, seed: int | None, levels: int = 32) -> QuantileHead:
    """A head that starts at the quantiles of the training labels and at their mean."""
    levels_K = (np.arange(levels) + 0.5) / levels
    quantiles_Q = np.asarray(labels.quantiles, np.float64)
    mean = labels.mean or 1.0
    quantiles_K = np.interp(levels_K, np.linspace(0.0, 1.0, len(quantiles_Q)), quantiles_Q)
    steps_K = np.maximum(np.diff(quantiles_K, prepend=0.0), _SMALLEST_STEP * mean)
    weights_K = trapezoid_weights(levels_K)
    start_K = np.cumsum(steps_K)
    rest = mean - float(weights_K[:-1] @ start_K[:-1])
    weights_K[-1] = max(rest / start_K[-1], weights_K[-1])
    return QuantileHead(levels_K.tolist(), steps_K.tolist(), weights_K.tolist(), mean, seed, name=name)


def trapezoid_weights(levels_K: np.ndarray) -> np.ndarray:
    """Weights of quantiles in their integral over all levels; beyond the first and the last one they stay equal."""
    edges = np.concatenate([[0.0], (levels_K[1:] + levels_K[:-1]) / 2, [1.0]])
    return np.diff(edges)
