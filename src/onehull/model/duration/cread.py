"""CREAD: classification and restoration with error-adaptive discretisation (Sun et al., AAAI 2024).

M logistic outputs φ_m = P(T > t_m) with ascending thresholds t_0 = 0, t_1, …; the duration is restored as
``T̂ = Σ φ_m Δ_m``. The loss is the mean cross-entropy of the M questions, plus the error of T̂, plus a penalty on
probabilities that rise from one threshold to the next.

Where we differ from the paper:

- Δ_m is the mean of min(T, t_{m+1}) − t_m over training labels with T > t_m, not t_{m+1} − t_m, and the last interval
  is open. With the probabilities of the training part T̂ is then its mean exactly; with t_{m+1} − t_m it is too large
  by what durations miss of the ends of their intervals, and too small by what lies beyond the last threshold.
- Thresholds are quantiles at levels ``(1 − exp(−α m / M)) / (1 − exp(−α))``, which go from equal frequency (α = 0)
  to closer together among long durations. The paper finds α by a search over discretisation errors; here it is
  ``tail``.
- The error of T̂ is squared and divided by the squared mean label. The paper uses a Huber loss, which pulls the
  expectation towards the median.

Shapes: ``B`` batch, ``M`` thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from onehull.model.attached import attach, attached
from onehull.model.heads import DenseHead, logit
from onehull.spec.labels import LabelDistribution


@keras.saving.register_keras_serializable(package="onehull")
class CreadHead(DenseHead):
    """Expected duration ``(B, 1)``, restored from the probabilities that it exceeds each threshold.

    It attaches ``logits`` ``(B, M)``, ``thresholds`` ``(M,)`` and ``scale``.

    Args:
        thresholds: ascending, ``(M,)``, in the unit of the label.
        widths: what exceeding each threshold adds to the duration, ``(M,)``.
        shares: share of training labels above each threshold; the head starts there. Default: one half.
        scale: what an error of 1 in the loss is: the mean duration in training.
        seed: seed of the initial kernel, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        widths: Sequence[float],
        shares: Sequence[float] | None = None,
        scale: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if len(thresholds) != len(widths):
            raise ValueError(f"widths must be as many as thresholds. Received {len(widths)} and {len(thresholds)}.")
        self.thresholds, self.widths, self.scale = list(thresholds), list(widths), scale
        self.shares = None if shares is None else list(shares)
        bias = [logit(share) for share in self.shares or [0.5] * len(self.thresholds)]
        super().__init__(len(self.thresholds), bias, seed, **kwargs)

    def call(self, inputs: Any) -> Any:
        """Applies the head to ``(B, width)``."""
        logits_BM = self._dense(inputs)
        widths_M1 = ops.expand_dims(ops.convert_to_tensor(self.widths, "float32"), -1)
        prediction = ops.matmul(ops.sigmoid(logits_BM), widths_M1)
        thresholds_M = ops.convert_to_tensor(self.thresholds, "float32")
        return attach(prediction, logits=logits_BM, thresholds=thresholds_M, scale=self.scale)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, 1)``."""
        return (*input_shape[:-1], 1)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {"thresholds": self.thresholds, "widths": self.widths, "shares": self.shares, "scale": self.scale}
        return {**super().get_config(), **own, "seed": self.seed}


@keras.saving.register_keras_serializable(package="onehull")
class CreadLoss(keras.losses.Loss):
    """Cross-entropy of the thresholds, error of the restored duration and order, on what `CreadHead` attaches.

    Args:
        restoration: weight of the squared relative error.
        order: weight of the penalty on probabilities that rise.
        **kwargs: of `keras.losses.Loss`.
    """

    def __init__(self, restoration: float = 0.3, order: float = 1.0, name: str = "cread_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.restoration, self.order = restoration, order

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Losses ``(B,)`` of ``(B, 1)``."""
        logits_BM, thresholds_M, scale = (
            attached(y_pred, name, "CreadHead") for name in ("logits", "thresholds", "scale")
        )
        above_BM = ops.cast(y_true > thresholds_M, "float32")
        # −log σ(x) is softplus(−x): never the logarithm of 0.
        entropy_B = ops.mean(ops.softplus(logits_BM) - above_BM * logits_BM, axis=-1)
        error_B = ops.squeeze(ops.square((y_true - y_pred) / scale), -1)
        shares_BM = ops.sigmoid(logits_BM)
        rises_B = ops.sum(ops.relu(shares_BM[:, 1:] - shares_BM[:, :-1]), axis=-1)
        return entropy_B + self.restoration * error_B + self.order * rises_B

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "restoration": self.restoration, "order": self.order}


def cread_head(
    labels: LabelDistribution, *, name: str, seed: int | None, thresholds: int = 32, tail: float = 3.0
) -> CreadHead:
    """A head whose thresholds and widths are those of the training labels; it starts at their mean."""
    quantiles_Q = np.asarray(labels.quantiles, np.float64)
    levels_Q = np.linspace(0.0, 1.0, len(quantiles_Q))
    thresholds_M = np.unique(np.interp(_levels(thresholds, tail), levels_Q, quantiles_Q))
    thresholds_M[0] = 0.0
    thresholds_M = np.unique(thresholds_M)
    # The label at an evenly spaced fine level stands for as many labels: sums over it are means over labels.
    sample_N = np.interp((np.arange(_SAMPLE) + 0.5) / _SAMPLE, levels_Q, quantiles_Q)
    shares_M = (sample_N[:, None] > thresholds_M).mean(0)
    thresholds_M, shares_M = thresholds_M[shares_M > 0], shares_M[shares_M > 0]
    if not len(thresholds_M):  # every label is 0
        return CreadHead([0.0], [1.0], [0.0], 1.0, seed, name=name)
    ends_M = np.append(thresholds_M[1:], np.inf)
    added_M = np.clip(sample_N[:, None], thresholds_M, ends_M).mean(0) - thresholds_M
    # Few quantiles say little about the longest labels, whose mean is what is left of the mean of all.
    added_M[-1] = max(labels.mean - added_M[:-1].sum(), 1e-6 * labels.mean)
    widths_M = added_M / shares_M
    return CreadHead(thresholds_M.tolist(), widths_M.tolist(), shares_M.tolist(), labels.mean or 1.0, seed, name=name)


_SAMPLE = 8192


def _levels(count: int, tail: float) -> np.ndarray:
    """Levels of the thresholds, ascending from 0 and below 1."""
    evenly_M = np.arange(count) / count
    return evenly_M if tail == 0 else -np.expm1(-tail * evenly_M) / -np.expm1(-tail)
