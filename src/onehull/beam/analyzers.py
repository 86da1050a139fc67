"""What analysis measures of a feature, as analyzers of TensorFlow Transform.

Each takes raw tensors inside of a preprocessing function, and its result stands for the value over all rows. Shapes:
``B`` batch, ``N`` any number of values, ``D`` distinct values.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.analyzer_nodes import wrap_as_tensor
from tensorflow_transform.analyzers import QuantilesCombiner, apply_cacheable_combine_operation

from onehull.features.quantiles import equal_frequency_boundaries

RANKS = 10_000
"""Quantiles that are read from a sketch."""
SAMPLED = 1_000_000
"""Values that stand for all where there are more."""


def sketch_epsilon(buckets: int) -> float:
    """Largest error of a quantile's rank, as a share of the values, that TensorFlow Transform's sketch promises."""
    return min(1e-3, 0.1 / buckets)


class Moments(NamedTuple):
    """Scalars, float64: of the finite numbers (0 where there are none), and whether any row has none."""

    mean: Any
    std: Any
    has_missing: Any


def moments(number_B: Any, *, log1p: bool) -> Moments:
    """Mean and deviation of the finite numbers, or of their signed logarithms."""
    finite_B = tf.math.is_finite(number_B)
    value_N = signed_log1p(finite_values(number_B)) if log1p else finite_values(number_B)
    # Rounding gives a constant column a tiny deviation, which would blow up whatever else comes at serving.
    varies = tft.min(value_N) < tft.max(value_N)
    std = tf.where(varies, tf.sqrt(tft.var(value_N)), 0.0)
    return Moments(tft.mean(value_N), std, tft.max(tf.cast(~finite_B, tf.float64)))


def finite_values(number_B: Any) -> Any:
    """Numbers ``(B,)`` → the finite ones among them, float64 ``(N,)``."""
    return tf.cast(tf.boolean_mask(number_B, tf.math.is_finite(number_B)), tf.float64)


def signed_log1p(value: Any) -> Any:
    """sign(x)·log(1 + |x|) of any shape."""
    return tf.sign(value) * tf.math.log1p(tf.abs(value))


def present_texts(text: Any) -> Any:
    """Texts of any shape → ``(N,)`` without empty ones."""
    flat = text.values if isinstance(text, tf.SparseTensor) else tf.reshape(text, [-1])
    return tf.boolean_mask(flat, tf.not_equal(flat, ""))


def bucket_boundaries(number_B: Any, buckets: int) -> Any:
    """Boundaries of buckets of equal frequency, ascending, filled up with infinity, float32 ``(buckets - 1,)``."""
    # TensorFlow Transform names what it does by the scope.
    with tf.compat.v1.name_scope("bucket_boundaries"):
        value_N = tf.cast(finite_values(number_B), tf.float32)
        (node,) = apply_cacheable_combine_operation(EqualFrequencyCombiner(buckets), value_N)
        return wrap_as_tensor(node)


class EqualFrequencyCombiner(QuantilesCombiner):
    """TensorFlow Transform's sketch of quantiles, read by `onehull.features.quantiles`.

    Where several quantiles are equal, `tft.quantiles` gives the same boundary several times, and the buckets between
    are empty. This gives a frequent value one bucket, as the local engine does. The rank of a boundary is that of the
    exact one within `sketch_epsilon` + 1 / `RANKS`; it is the exact one while there are at most `RANKS` / 2 values.
    """

    def __init__(self, buckets: int) -> None:
        super().__init__(RANKS, sketch_epsilon(buckets), np.float32, output_shape=[buckets - 1])
        self._buckets = buckets

    def extract_output(self, accumulator: Any) -> list[np.ndarray]:
        """The boundaries of all values that the sketch has seen."""
        found, ranks = (part.to_pylist() for part in accumulator.GetQuantilesAndCumulativeWeights(RANKS))
        boundaries = np.full(self._buckets - 1, np.inf, np.float32)
        if found:
            sample = _sample(np.array(found[0], np.float32), np.array(ranks[0]))
            exact = equal_frequency_boundaries(sample, self._buckets)
            boundaries[: len(exact)] = exact
        return [boundaries]


def _sample(quantiles: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Values with about the frequencies of those in the sketch; exactly those, while it holds all of them.

    Args:
        quantiles: ascending, several may be equal.
        ranks: how many values are not above each of them.
    """
    distinct_D, first_D = np.unique(quantiles, return_index=True)
    counts_D = np.diff(ranks[first_D], prepend=0.0)
    share = min(1.0, SAMPLED / counts_D.sum())
    return np.repeat(distinct_D, np.maximum(1, np.rint(counts_D * share)).astype(np.int64))
