"""Losses that logarithms and quotients can be taken of."""

from __future__ import annotations

import tensorflow as tf

_SMALLEST = 1e-8
"""A loss below it counts as this: a task that is solved, or has no loss, must not weigh infinitely much."""


def positive(losses_T: tf.Tensor) -> tf.Tensor:
    """Losses ``(T,)`` with 1e-8 in place of what is smaller, 0 and negative ones too."""
    return tf.maximum(losses_T, tf.constant(_SMALLEST, losses_T.dtype))
