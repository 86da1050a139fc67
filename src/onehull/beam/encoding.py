"""One feature, from its raw tensor to its encoded input, with TensorFlow Transform's analyzers in between.

It computes what `onehull.features.layers` computes, of tensors that analysis has yet to find; the tests compare both.
Shapes: ``B`` batch, ``L`` raw list length, ``N`` encoded list length.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from onehull.beam.analyzers import bucket_boundaries, moments, present_texts, signed_log1p
from onehull.beam.ordered_ids import ordered_ids
from onehull.features.analyze import HASH_KEY
from onehull.features.layers import FirstIds, HashIds, WholeVectors, usable
from onehull.features.transform import MAX_Z
from onehull.spec.features import CategoricalFeature, Feature, ListFeature, NumericFeature, VectorFeature
from onehull.spec.inputs import FIRST_ID, MISSING_ID, UNSEEN_ID


def encode(feature: Feature, raw: Any, file: str) -> Any:
    """Encodes a feature: ids int64, as TensorFlow Transform wants them, and numbers float32.

    Args:
        feature: of the spec.
        raw: dense or sparse; see `onehull.beam.preprocessing.preprocessing_fn_of`.
        file: name of its vocabulary file.
    """
    if isinstance(feature, VectorFeature):
        return WholeVectors()(tf.reshape(_dense(raw, math.nan, feature.size), [-1, feature.size]))
    if isinstance(feature, NumericFeature) and feature.transform != "buckets":
        return _z(_one_a_row(raw, math.nan), log1p=feature.transform == "log1p")
    return tf.cast(_ids(feature, raw, file), tf.int64)


def _ids(feature: NumericFeature | CategoricalFeature | ListFeature, raw: Any, file: str) -> Any:
    if isinstance(feature, NumericFeature):
        return _bucket(_one_a_row(raw, math.nan), feature.buckets)
    text = FirstIds(feature.max_length)(_dense(raw, "")) if isinstance(feature, ListFeature) else _one_a_row(raw, "")
    if feature.encoding == "hash":
        return HashIds(feature.buckets, HASH_KEY)(text)
    return _place(text, ordered_ids(present_texts(text), file, feature.min_count, feature.max_size))


def _place(text: Any, vocabulary: Any) -> Any:
    line = tft.apply_vocabulary(text, vocabulary, default_value=-1, file_format="tfrecord_gzip")
    # The file begins with the missing id; unseen ids, which have no line, come second.
    known = tf.where(line == 0, tf.constant(MISSING_ID, tf.int64), line + FIRST_ID - 1)
    return tf.where(line < 0, tf.constant(UNSEEN_ID, tf.int64), known)


def _z(number_B: Any, *, log1p: bool) -> Any:
    found = moments(number_B, log1p=log1p)
    finite_B = tf.math.is_finite(number_B)
    value_B = tf.cast(usable(number_B), tf.float64)
    value_B = signed_log1p(value_B) if log1p else value_B
    z_B = tf.clip_by_value(tf.math.divide_no_nan(value_B - found.mean, found.std), -MAX_Z, MAX_Z)
    missing_B = tf.where(finite_B, tf.zeros([], tf.float64), found.has_missing)
    return tf.cast(tf.stack([tf.where(finite_B, z_B, 0.0), missing_B], axis=1), tf.float32)


def _bucket(number_B: Any, buckets: int) -> Any:
    boundaries = bucket_boundaries(number_B, buckets)
    boundaries = tf.where(tf.math.is_finite(boundaries), usable(boundaries), boundaries)  # filled up with infinity
    bucket_B = tf.searchsorted(boundaries, usable(number_B), side="right")
    return tf.where(tf.math.is_finite(number_B), 1 + bucket_B, MISSING_ID)


def _one_a_row(raw: Any, missing: Any) -> Any:
    """``(B,)``; what is absent is `missing`."""
    return _dense(raw, missing, 1)[:, 0] if isinstance(raw, tf.SparseTensor) else raw


def _dense(raw: Any, missing: Any, width: int | None = None) -> Any:
    if not isinstance(raw, tf.SparseTensor):
        return raw
    widest = raw.dense_shape[1] if width is None else tf.constant(width, tf.int64)
    whole = tf.SparseTensor(raw.indices, raw.values, tf.stack([raw.dense_shape[0], widest]))
    return tf.sparse.to_dense(whole, default_value=missing)
