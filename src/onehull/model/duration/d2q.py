"""D2Q: duration-deconfounded quantiles (Zhan et al., KDD 2022).

Impressions are grouped by the length of what is watched. The head learns the level p of the watch time among the
watch times of its group, with a squared error, and serves the group's quantile at p. The tables of quantiles are
constants of the layer, so that every exported form has them.

Where we differ from the paper: between the centres of two neighbouring groups both tables count, so that the
prediction is continuous in the duration; the paper has a jump at every boundary. Equal labels share the middle of
their levels.

A mean level is not the level of the mean: predictions are about medians, below the expected duration where the tail
is heavy. Calibrate before use in a formula that multiplies.

Shapes: ``B`` batch, ``G`` groups, ``Q`` levels.
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


@keras.saving.register_keras_serializable(package="onehull")
class D2qHead(DenseHead):
    """Duration ``(B, 1)`` at the predicted level of its group's quantiles.

    It attaches ``level`` ``(B, 1)`` and the row's ``quantiles`` ``(B, Q)``.

    Args:
        quantiles: label at evenly spaced levels from 0 to 1, for each group, ``(G, Q)``.
        centers: encoded duration at the centre of each group, ascending, ``(G,)``; None for one group, where the head
            reads no duration.
        seed: seed of the initial kernel, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self,
        quantiles: Sequence[Sequence[float]],
        centers: Sequence[float] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        groups = 1 if centers is None else len(centers)
        if len(quantiles) != groups:
            raise ValueError(f"quantiles must have a row for each of {groups} groups. Received {len(quantiles)}.")
        self.quantiles = [list(row) for row in quantiles]
        self.centers = None if centers is None else list(centers)
        super().__init__(1, 0.0, seed, **kwargs)

    @property
    def reads_duration(self) -> bool:
        """Whether labels are grouped by duration."""
        return self.centers is not None

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        super().build(input_shape[0] if self.reads_duration else input_shape)

    def call(self, inputs: Any) -> Any:
        """Applies the head to ``(B, width)``, or to that and the encoded duration, ``(B,)`` or ``(B, …)``."""
        hidden, duration = inputs if self.reads_duration else (inputs, None)
        level_B1 = ops.sigmoid(self._dense(hidden))
        quantiles_BQ = self._tables(level_B1, duration)
        return attach(quantile_at(quantiles_BQ, level_B1), level=level_B1, quantiles=quantiles_BQ)

    def _tables(self, level_B1: Any, duration: Any) -> Any:
        """The quantiles of each row, between those of the two groups that its duration is nearest to."""
        tables_GQ = np.asarray(self.quantiles, np.float32)
        if self.centers is None or len(self.centers) == 1:
            return ops.zeros_like(level_B1) + tables_GQ
        # What stands behind an encoded number is the flag of a missing one.
        duration_B1 = ops.cast(duration[:, None] if len(duration.shape) == 1 else duration[:, :1], "float32")
        centers_G = np.asarray(self.centers, np.float32)
        between_BG = ops.clip((duration_B1 - centers_G[:-1]) / np.diff(centers_G), 0.0, 1.0)
        passed_B1 = ops.sum(between_BG, axis=-1, keepdims=True)
        return ops.matmul(_hats(passed_B1, len(centers_G)), ops.convert_to_tensor(tables_GQ))

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, 1)``."""
        hidden = input_shape[0] if self.reads_duration else input_shape
        return (*hidden[:-1], 1)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "quantiles": self.quantiles, "centers": self.centers, "seed": self.seed}


@keras.saving.register_keras_serializable(package="onehull")
class D2qLoss(keras.losses.Loss):
    """Squared error of the level, on what `D2qHead` attaches; twelve times it, so that a constant has a loss of 1."""

    def __init__(self, name: str = "d2q_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Losses ``(B,)`` of ``(B, 1)``."""
        level_B1, quantiles_BQ = (attached(y_pred, name, "D2qHead") for name in ("level", "quantiles"))
        return 12.0 * ops.squeeze(ops.square(level_of(quantiles_BQ, y_true) - level_B1), -1)


def quantile_at(quantiles_BQ: Any, level_B1: Any) -> Any:
    """Quantiles ``(B, 1)`` at levels between 0 and 1, by linear interpolation."""
    last = quantiles_BQ.shape[-1] - 1
    return ops.sum(_hats(level_B1 * last, last + 1) * quantiles_BQ, axis=-1, keepdims=True)


def level_of(quantiles_BQ: Any, label_B1: Any) -> Any:
    """Levels ``(B, 1)`` of labels, the inverse of `quantile_at`; the middle of those that have the same quantile."""
    low_BQ, high_BQ = quantiles_BQ[:, :-1], quantiles_BQ[:, 1:]
    width_BQ = high_BQ - low_BQ
    flat = width_BQ <= 0
    within_BQ = ops.clip((label_B1 - low_BQ) / ops.where(flat, 1.0, width_BQ), 0.0, 1.0)
    step_BQ = 0.5 * (ops.sign(label_B1 - low_BQ) + 1.0)
    return ops.mean(ops.where(flat, step_BQ, within_BQ), axis=-1, keepdims=True)


def _hats(position_B1: Any, count: int) -> Any:
    """Weights ``(B, count)`` of the two whole numbers around each position; they sum to 1."""
    # Arithmetic in place of a gather: it is differentiable, and the same in every exported form.
    return ops.relu(1.0 - ops.abs(position_B1 - np.arange(count, dtype=np.float32)))


def d2q_head(labels: LabelDistribution, *, name: str, seed: int | None) -> D2qHead:
    """A head with the tables of the training labels; it starts at the median of each group."""
    if labels.groups is None:
        return D2qHead([labels.quantiles], None, seed, name=name)
    return D2qHead(labels.groups.quantiles, labels.groups.centers, seed, name=name)
