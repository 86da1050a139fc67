"""A loss of one task that looks at the labels and predictions of others.

Shapes: ``B`` batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from onehull.model.labels import Labels


class RowLosses(NamedTuple):
    """One loss a row.

    Attributes:
        losses_B: float32; any finite number where there is no loss.
        present_B: bool, rows that have a loss.
    """

    losses_B: tf.Tensor
    present_B: tf.Tensor


class JointLoss(keras.losses.Loss, ABC):
    """Base of losses over several tasks; give one in ``compile(loss={"buy": ...})`` as any other loss."""

    @abstractmethod
    def rows(self, task: str, labels: Mapping[str, Labels], predictions: Mapping[str, tf.Tensor]) -> RowLosses:
        """The task's loss of each row.

        Args:
            task: the task that the loss belongs to.
            labels: labels of every task that has a loss.
            predictions: predictions of every task, ``(B, 1)`` or ``(B, classes)``.
        """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Not of use alone.

        Raises:
            ValueError: always; the loss needs a `MultiTaskModel`, which calls `rows`.
        """
        del y_true, y_pred
        raise ValueError(f"{type(self).__name__} must be used in MultiTaskModel.compile(loss={{task: ...}}).")
