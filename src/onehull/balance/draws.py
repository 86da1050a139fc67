"""Random orders that are the same bits eagerly, in a graph and under XLA.

TensorFlow's stateless generators draw other numbers once XLA compiles them (measured with 2.21, for every ``alg``),
so that a compiled step would not repeat an eager one. Orders of a few tasks need no more than a hash of a counter.
"""

from __future__ import annotations

import tensorflow as tf

_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35
"""2³² divided by the golden ratio, and the two multipliers of MurmurHash3's 32-bit finaliser."""


def random_orders(seed: tf.Tensor, rows: int, size: int) -> tf.Tensor:
    """Independent random permutations of ``0 … size-1``, int32 ``(rows, size)``.

    Args:
        seed: int64 ``(2,)``; another second number gives other permutations.
        rows: number of permutations.
        size: elements of each.
    """
    counter = tf.cast(tf.range(rows * size), tf.uint32) * tf.constant(_GOLDEN, tf.uint32)
    low = tf.cast(tf.bitwise.bitwise_and(seed, tf.constant(0xFFFFFFFF, tf.int64)), tf.uint32)
    for number in tf.unstack(low):
        counter = _mixed(counter + _mixed(number + tf.constant(1, tf.uint32)))
    # Signed 64 bits hold every key, and are sorted by every compiler.
    return tf.argsort(tf.reshape(tf.cast(counter, tf.int64), [rows, size]), axis=1, stable=True)


def _mixed(bits: tf.Tensor) -> tf.Tensor:
    """Spreads every input bit over the 32 output bits."""
    for shift, factor in ((16, _MIX_1), (13, _MIX_2)):
        shifted = tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32))
        bits = tf.bitwise.bitwise_xor(bits, shifted) * tf.constant(factor, tf.uint32)
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(16, tf.uint32)))
