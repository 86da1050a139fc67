"""The transform as a TensorFlow graph: what training reads through and what the SavedModel contains.

Raw tensors, by feature; ``B`` is the batch, ``L`` any list length:

- categorical  text ``(B,)``, missing is empty
- numeric      float32 ``(B,)``, missing is NaN or infinite
- list         text ``(B, L)``, padded with empty text
- vector       float32 ``(B, size)``, missing is NaN in any element
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from onehull.features.layers import FirstIds, HashIds, QuantileIds, Standardize, VocabularyIds, WholeVectors
from onehull.features.transform import (
    BucketsTransform,
    FeatureTransform,
    HashTransform,
    MomentsTransform,
    Transform,
    VectorTransform,
    VocabularyTransform,
)


def raw_signature(transform: Transform) -> dict[str, Any]:
    """Shape and dtype of every raw tensor, with a free batch.

    Returns:
        By feature, a `tf.TensorSpec`.
    """
    return {name: _raw_spec(name, feature) for name, feature in transform.features.items()}


def transform_model(transform: Transform) -> keras.Model:
    """A functional model from raw tensors to encoded inputs, both dictionaries by feature.

    It can be called in a graph, saved with ``model.save`` and exported in a SavedModel.
    """
    raw = {
        name: keras.Input(shape=spec.shape[1:], dtype=spec.dtype.name, name=name)
        for name, spec in raw_signature(transform).items()
    }
    return keras.Model(
        raw, {name: _encode(name, transform.features[name], raw[name]) for name in raw}, name="transform"
    )


def parse_examples(transform: Transform) -> Callable[[Any], dict[str, Any]]:
    """A function from serialised ``tf.Example`` ``(B,)`` to raw tensors; what an example lacks is missing."""
    formats = {name: _example_format(spec) for name, spec in raw_signature(transform).items()}

    def parse(examples_B: Any) -> dict[str, Any]:
        parsed = tf.io.parse_example(examples_B, formats)
        return {
            name: tf.sparse.to_dense(value, default_value="") if isinstance(value, tf.SparseTensor) else value
            for name, value in parsed.items()
        }

    return parse


def _raw_spec(name: str, feature: FeatureTransform) -> Any:
    if isinstance(feature, (MomentsTransform, BucketsTransform)):
        return tf.TensorSpec((None,), tf.float32, name=name)
    if isinstance(feature, VectorTransform):
        return tf.TensorSpec((None, feature.size), tf.float32, name=name)
    return tf.TensorSpec((None,) if feature.bag is None else (None, None), tf.string, name=name)


def _example_format(spec: Any) -> Any:
    if spec.dtype == tf.float32:
        return tf.io.FixedLenFeature(spec.shape[1:], tf.float32, tf.fill(spec.shape[1:], math.nan))
    if spec.shape.rank == 1:
        return tf.io.FixedLenFeature((), tf.string, "")
    return tf.io.VarLenFeature(tf.string)


def _encode(name: str, feature: FeatureTransform, raw: Any) -> Any:
    # Layers share the feature's name with their input, so they need one of their own.
    own = f"{name}_encoded"
    if isinstance(feature, MomentsTransform):
        return Standardize(feature.mean, feature.std, feature.log1p, feature.has_missing, name=own)(raw)
    if isinstance(feature, BucketsTransform):
        return QuantileIds(feature.boundaries, name=own)(raw)
    if isinstance(feature, VectorTransform):
        return WholeVectors(name=own)(raw)
    text = raw if feature.bag is None else FirstIds(feature.bag.length, name=f"{name}_first")(raw)
    return _id_layer(feature, own)(text)


def _id_layer(feature: VocabularyTransform | HashTransform, name: str) -> keras.layers.Layer:
    if isinstance(feature, HashTransform):
        return HashIds(feature.buckets, feature.key, name=name)
    return VocabularyIds(feature.values, name=name)
