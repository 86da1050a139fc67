"""Any Keras loss as a loss for each row: reduced over everything but the batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

CROSSENTROPY = ("ce", "crossentropy")


class RowLoss:
    """The loss of one task, one value a row.

    Args:
        task: name of the task, for messages.
        identifier: what `compile` accepts: a name, a function of ``(y_true, y_pred)`` or a `keras.losses.Loss`.
    """

    def __init__(self, task: str, identifier: Any) -> None:
        self.task = task
        self._identifier = identifier
        self._loss: Callable[..., Any] | None = None
        if not (isinstance(identifier, str) and identifier.lower() in CROSSENTROPY):
            self._loss = _unreduced(keras.losses.get(identifier))

    @property
    def reduction(self) -> str | None:
        """The reduction that the user asked for by passing a Loss object; None where none was asked for."""
        if not isinstance(self._identifier, keras.losses.Loss):
            return None
        reduction: str | None = self._identifier.reduction
        return None if reduction in ("sum_over_batch_size", "mean", "none") else reduction

    def __call__(self, labels: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
        """Losses ``(B,)`` in float32.

        Raises:
            ValueError: the loss gives one number for the whole batch.
        """
        loss = self._loss or _unreduced(crossentropy_by_shape(labels, predictions))
        values = tf.cast(loss(labels, predictions), tf.float32)
        if values.shape.rank == 0:
            rule = "must give one value a row, so that rows without a label can be left out"
            raise ValueError(f"loss[{self.task!r}] {rule}. Received a scalar from {self._identifier!r}.")
        if values.shape.rank == 1:
            return values
        return tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))


class _FunctionLoss(keras.losses.Loss):
    """A function of ``(y_true, y_pred)``, with Keras' casts around it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(name="row_loss", reduction="none")
        self._function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self._function(y_true, y_pred)


def _unreduced(loss: Any) -> Callable[..., Any]:
    if not isinstance(loss, keras.losses.Loss):
        return _FunctionLoss(loss)
    unreduced = copy.copy(loss)
    unreduced.reduction = "none"
    return unreduced


def crossentropy_by_shape(labels: tf.Tensor, predictions: tf.Tensor) -> Any:
    """The cross-entropy that Keras would pick for ``"crossentropy"`` from the shapes."""
    if predictions.shape[-1] == 1:
        return keras.losses.binary_crossentropy
    sparse = labels.shape.rank < predictions.shape.rank or labels.shape[-1] == 1
    return keras.losses.sparse_categorical_crossentropy if sparse else keras.losses.categorical_crossentropy
