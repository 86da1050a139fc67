"""Tasks without a label in the batch, the same for every method."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from onehull.balance.types import Stats


def weight_one_when_absent(weights_T: tf.Tensor, active_T: tf.Tensor) -> tf.Tensor:
    """Weights ``(T,)`` with 1 for every task that is not active."""
    return tf.where(active_T, weights_T, tf.ones_like(weights_T))


def num_active(active_T: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Number of active tasks, a scalar; at least 1, so that it can be divided by."""
    return tf.maximum(tf.reduce_sum(tf.cast(active_T, dtype)), 1)


def active_softmax(scores_T: tf.Tensor, active_T: tf.Tensor) -> tf.Tensor:
    """Softmax ``(T,)`` over the active tasks; 0 for the others, except where no task is active."""
    return tf.nn.softmax(tf.where(active_T, scores_T, tf.constant(scores_T.dtype.min, scores_T.dtype)))


def safe_divide(numerator: tf.Tensor, denominator: tf.Tensor) -> tf.Tensor:
    """Quotient, and 0 where the denominator is 0; also under XLA and in gradients."""
    zero = tf.equal(denominator, 0)
    return tf.where(zero, tf.zeros_like(numerator), numerator / tf.where(zero, tf.ones_like(denominator), denominator))


def solution_tasks(stats: Stats) -> tf.Tensor:
    """Tasks ``(T,)`` that a method on gradients solves for: active ones whose gradient is a finite number, not zero.

    A norm that is not finite is left out too: the weight 1 lets it through to the update, where it is seen, and the
    other tasks' weights stay numbers.
    """
    norm2_T = tf.linalg.diag_part(stats.gram_TT)
    # Below the smallest normal number, XLA and eager kernels disagree on what is zero.
    smallest = np.finfo(norm2_T.dtype.as_numpy_dtype).tiny
    return stats.active_T & tf.math.is_finite(norm2_T) & (norm2_T >= smallest)


def weight_one_outside(weights_T: tf.Tensor, solved_T: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Weights ``(T,)`` of a solution in the dtype of the losses: 1 outside it, and 1 for a task that is alone in it."""
    several = tf.math.count_nonzero(solved_T) > 1
    return tf.cast(tf.where(solved_T & several, weights_T, tf.ones_like(weights_T)), dtype)
