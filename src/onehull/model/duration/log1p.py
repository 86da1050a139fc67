"""The mean on the log scale, turned back with a smearing factor (Duan, JASA 78, 1983).

exp of a predicted mean of log(1 + T) is a geometric mean, below the arithmetic one. With residuals
r = log(1 + T) − z that do not depend on the features, E[1 + T] = exp(z) · E[exp(r)]; the second factor is the smearing
factor S. Duan takes the mean of exp(r) over all training rows after the fit; we follow it with a moving average over
training batches, so that it is there at every checkpoint and costs no pass over the data. It starts at the factor of
the constant predictor, E[1 + T] / exp(E[log(1 + T)]).

Shapes: ``B`` batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from onehull.model.attached import attach, attached
from onehull.model.heads import DenseHead
from onehull.model.joint_loss import JointLoss, RowLosses
from onehull.model.labels import Labels
from onehull.spec.labels import LabelDistribution

_LARGEST = 20.0
"""Largest log(1 + T) that is turned back; exp(20) is half a thousand million."""


@keras.saving.register_keras_serializable(package="onehull")
class Log1pHead(DenseHead):
    """Expected duration ``(B, 1)`` as S · exp(z) − 1, not below 0; z is linear and S follows the residuals.

    It attaches ``logits`` z, and ``smearing``, the variable that `SmearedLoss` moves where ``training`` is true.

    Args:
        prior: mean of log(1 + T) in training; z starts there.
        smearing: first smearing factor.
        seed: seed of the initial kernel, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, prior: float = 0.0, smearing: float = 1.0, seed: int | None = None, **kwargs: Any) -> None:
        self.prior, self.smearing = prior, smearing
        super().__init__(1, prior, seed, **kwargs)

    def build(self, input_shape: Any) -> None:
        """Makes the variables, among them the smearing factor, which no gradient moves."""
        self._factor = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(self.smearing), trainable=False, name="smearing"
        )
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Applies the head to ``(B, width)``."""
        logits_B1 = self._dense(inputs)
        factor = ops.convert_to_tensor(self._factor)
        prediction = ops.relu(factor * ops.exp(ops.minimum(logits_B1, _LARGEST)) - 1.0)
        return attach(prediction, logits=logits_B1, smearing=self._factor, training=bool(training))

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "prior": self.prior, "smearing": self.smearing, "seed": self.seed}


@keras.saving.register_keras_serializable(package="onehull")
class SmearedLoss(JointLoss):
    """Squared error of log(1 + T) against z; in training it also moves the smearing factor of `Log1pHead`.

    Rows count equally for the factor, whatever their sample weights. Labels below 0 are taken as 0.

    Args:
        decay: of the moving average of the batch's mean exp(r).
        **kwargs: of `keras.losses.Loss`.
    """

    def __init__(self, decay: float = 0.99, name: str = "smeared_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.decay = decay

    def rows(self, task: str, labels: Mapping[str, Labels], predictions: Mapping[str, tf.Tensor]) -> RowLosses:
        """Losses of the rows that have a label."""
        prediction, (values, present_B) = predictions[task], labels[task]
        logits_B1 = attached(prediction, "logits", "Log1pHead")
        true_B1 = tf.math.log1p(tf.maximum(tf.cast(values, tf.float32), 0.0))
        residual_B = tf.reshape(true_B1 - logits_B1, [-1])
        if attached(prediction, "training", "Log1pHead"):
            self._follow(attached(prediction, "smearing", "Log1pHead"), residual_B, present_B)
        return RowLosses(tf.square(residual_B), present_B)

    def _follow(self, factor: Any, residual_B: tf.Tensor, present_B: tf.Tensor) -> None:
        """Moves the factor towards the batch's; a batch without labels leaves it."""
        present = tf.cast(present_B, tf.float32)
        ratios_B = tf.where(present_B, tf.exp(tf.minimum(tf.stop_gradient(residual_B), _LARGEST)), 0.0)
        count = tf.reduce_sum(present)
        mean = tf.reduce_sum(ratios_B) / tf.maximum(count, 1.0)
        old = tf.convert_to_tensor(factor)
        factor.assign(tf.where(count > 0, self.decay * old + (1.0 - self.decay) * mean, old))

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "decay": self.decay}


def log1p_head(labels: LabelDistribution, *, name: str, seed: int | None) -> Log1pHead:
    """A head that starts as the constant predictor, with its smearing factor."""
    prior = labels.mean_log1p or 0.0
    return Log1pHead(prior, (1 + labels.mean) / math.exp(prior), seed, name=name)
