"""Random orders and numbers that are the same bits eagerly, in a graph and under XLA.

TensorFlow's stateless generators draw other numbers once XLA compiles them (measured with 2.21, for every ``alg``),
so that a compiled step would not repeat an eager one. A few numbers for a few tasks need no more than a hash of a
counter.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import tensorflow as tf

_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35
"""2³² divided by the golden ratio, and the two multipliers of MurmurHash3's 32-bit finaliser."""

_TABLE_BITS = 12


def random_orders(seed: tf.Tensor, rows: int, size: int) -> tf.Tensor:
    """Independent random permutations of ``0 … size-1``, int32 ``(rows, size)``.

    Args:
        seed: int64 ``(2,)``; another second number gives other permutations.
        rows: number of permutations.
        size: elements of each.
    """
    # Signed 64 bits hold every key, and are sorted by every compiler.
    keys = tf.cast(_random_bits(seed, rows * size), tf.int64)
    return tf.argsort(tf.reshape(keys, [rows, size]), axis=1, stable=True)


def random_normals(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Independent standard normal numbers, float32 ``(size,)``.

    They are looked up among 4096 quantiles (the largest is 3.7): a formula would give a compiler room to round.

    Args:
        seed: int64 ``(2,)``; another second number gives other numbers.
        size: how many.
    """
    index = tf.bitwise.right_shift(_random_bits(seed, size), tf.constant(32 - _TABLE_BITS, tf.uint32))
    return tf.gather(tf.constant(_normal_quantiles(), tf.float32), tf.cast(index, tf.int32))


@cache
def _normal_quantiles() -> tuple[float, ...]:
    """The quantiles in the middle of 4096 equally likely intervals."""
    count = 2**_TABLE_BITS
    return tuple(NormalDist().inv_cdf((index + 0.5) / count) for index in range(count))


def _random_bits(seed: tf.Tensor, count: int) -> tf.Tensor:
    """A hash of the seed and of each of ``0 … count-1``, uint32 ``(count,)``."""
    bits = tf.cast(tf.range(count), tf.uint32) * tf.constant(_GOLDEN, tf.uint32)
    low = tf.cast(tf.bitwise.bitwise_and(seed, tf.constant(0xFFFFFFFF, tf.int64)), tf.uint32)
    for number in tf.unstack(low):
        bits = _mixed(bits + _mixed(number + tf.constant(1, tf.uint32)))
    return bits


def _mixed(bits: tf.Tensor) -> tf.Tensor:
    """Spreads every input bit over the 32 output bits."""
    for shift, factor in ((16, _MIX_1), (13, _MIX_2)):
        shifted = tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32))
        bits = tf.bitwise.bitwise_xor(bits, shifted) * tf.constant(factor, tf.uint32)
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(16, tf.uint32)))
