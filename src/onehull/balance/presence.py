"""Tasks without a label in the batch, the same for every method."""

from __future__ import annotations

import tensorflow as tf


def weight_one_when_absent(weights_T: tf.Tensor, active_T: tf.Tensor) -> tf.Tensor:
    """Weights ``(T,)`` with 1 for every task that is not active."""
    return tf.where(active_T, weights_T, tf.ones_like(weights_T))


def num_active(active_T: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Number of active tasks, a scalar; at least 1, so that it can be divided by."""
    return tf.maximum(tf.reduce_sum(tf.cast(active_T, dtype)), 1)


def safe_divide(numerator: tf.Tensor, denominator: tf.Tensor) -> tf.Tensor:
    """Quotient, and 0 where the denominator is 0; also under XLA and in gradients."""
    zero = tf.equal(denominator, 0)
    return tf.where(zero, tf.zeros_like(numerator), numerator / tf.where(zero, tf.ones_like(denominator), denominator))
