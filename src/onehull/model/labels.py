"""Which labels are there. A label is missing where it is NaN, or equal to the task's sentinel.

Shapes: ``B`` batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf


class Labels(NamedTuple):
    """Labels that are safe to compute with.

    Attributes:
        values: the labels, with 0 in rows that have none; shape of the predictions where that is only a last axis of 1.
        present_B: bool, rows that have a label.
    """

    values: tf.Tensor
    present_B: tf.Tensor


def read_labels(labels: Any, predictions: tf.Tensor, sentinel: float | None) -> Labels:
    """Splits labels into values and presence.

    The values of missing rows are replaced here, before any loss sees them: NaN × 0 is NaN, in the loss and in its
    gradient. A row whose label has several elements (one-hot) is missing when any of them is.

    Args:
        labels: ``(B,)``, ``(B, 1)`` or ``(B, …)``, of any numeric dtype.
        predictions: output of the model for the same rows.
        sentinel: value that stands for a missing label, beside NaN.
    """
    values = tf.convert_to_tensor(labels)
    if values.shape.rank == predictions.shape.rank - 1 and predictions.shape[-1] == 1:
        values = values[..., tf.newaxis]
    missing = _missing(values, sentinel)
    missing_B = tf.reduce_any(missing, axis=list(range(1, values.shape.rank)))
    rows = tf.reshape(missing_B, [-1] + [1] * (values.shape.rank - 1))
    return Labels(tf.where(rows, tf.zeros_like(values), values), ~missing_B)


def _missing(values: tf.Tensor, sentinel: float | None) -> tf.Tensor:
    missing = tf.math.is_nan(values) if values.dtype.is_floating else tf.zeros_like(values, tf.bool)
    if sentinel is not None:
        # float64 holds every sentinel and small integer exactly; -1 cast to an unsigned integer would be a label.
        missing |= tf.equal(tf.cast(values, tf.float64), tf.constant(sentinel, tf.float64))
    return missing


def row_weights(sample_weight: Any | None, present_B: tf.Tensor) -> tf.Tensor:
    """Weight of each row ``(B,)``: the sample weight, and 0 where there is no label."""
    present = tf.cast(present_B, tf.float32)
    if sample_weight is None:
        return present
    weight_B = tf.reshape(tf.cast(sample_weight, tf.float32), [-1])
    return tf.where(present_B, weight_B, tf.zeros_like(weight_B)) * present
