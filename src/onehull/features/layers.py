"""The transform's steps as Keras layers, each from the raw tensor of one feature to its encoded input.

Shapes: ``B`` batch, ``L`` raw list length, ``N`` encoded list length. Text is UTF-8, and an empty text is missing.
`onehull.features.arrays` computes the same in NumPy; a change here is a change there, and the tests compare both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from onehull.features.transform import MAX_Z, SMALLEST
from onehull.spec.inputs import FIRST_ID, MISSING_ID, UNSEEN_ID

_PACKAGE = "onehull"


@keras.saving.register_keras_serializable(_PACKAGE)
class VocabularyIds(keras.layers.Layer):
    """Text of any shape → int32 places in a vocabulary.

    Unlike `keras.layers.StringLookup` it reserves no text: an id may be called ``[UNK]``.
    """

    def __init__(self, values: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.values = list(values)
        places = [MISSING_ID, *range(FIRST_ID, FIRST_ID + len(self.values))]
        content = tf.lookup.KeyValueTensorInitializer(tf.constant(["", *self.values]), tf.constant(places, tf.int32))
        self._table = tf.lookup.StaticHashTable(content, UNSEEN_ID)

    def call(self, text: Any) -> Any:
        """Looks every text up."""
        return self._table.lookup(text)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "values": self.values}


@keras.saving.register_keras_serializable(_PACKAGE)
class HashIds(keras.layers.Layer):
    """Text of any shape → int32 hash buckets, from 1 on."""

    def __init__(self, buckets: int, key: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.buckets = buckets
        self.key = list(key)

    def call(self, text: Any) -> Any:
        """Hashes every text."""
        bucket = tf.strings.to_hash_bucket_strong(text, self.buckets, self.key)
        return tf.where(tf.equal(text, ""), MISSING_ID, 1 + tf.cast(bucket, tf.int32))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "buckets": self.buckets, "key": self.key}


@keras.saving.register_keras_serializable(_PACKAGE)
class FirstIds(keras.layers.Layer):
    """Text ``(B, L)`` → ``(B, N)``: the first N texts of each row that are not empty, then empty ones."""

    def __init__(self, length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length = length

    def call(self, text_BL: Any) -> Any:
        """Moves what is missing to the end, then cuts or pads."""
        order_BL = tf.argsort(tf.cast(tf.equal(text_BL, ""), tf.int32), axis=1, stable=True)
        text_BN = tf.gather(text_BL, order_BL, batch_dims=1)[:, : self.length]
        absent = self.length - tf.shape(text_BN)[1]
        return tf.ensure_shape(tf.pad(text_BN, [[0, 0], [0, absent]], constant_values=""), (None, self.length))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "length": self.length}


def usable(number: Any) -> Any:
    """float32 → the same, with 0 for what is missing, infinite or below `SMALLEST`."""
    return tf.where(tf.math.is_finite(number) & (tf.abs(number) >= SMALLEST), number, 0.0)


@keras.saving.register_keras_serializable(_PACKAGE)
class Standardize(keras.layers.Layer):
    """Numbers ``(B,)`` → ``(B, 1)``, or ``(B, 2)`` with a flag of what is missing.

    It computes in float64: the two engines then round to the same float32, and a small spread around a large mean
    keeps its digits.
    """

    def __init__(self, mean: float, std: float, log1p: bool, has_missing: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mean, self.std, self.log1p, self.has_missing = mean, std, log1p, has_missing

    def call(self, number_B: Any) -> Any:
        """Standardises; missing numbers become 0."""
        finite_B = tf.math.is_finite(number_B)
        value_B = tf.cast(usable(number_B), tf.float64)
        if self.log1p:
            value_B = tf.sign(value_B) * tf.math.log1p(tf.abs(value_B))
        scale = 1.0 / self.std if self.std > 0 else 0.0
        z_B = tf.clip_by_value((value_B - self.mean) * scale, -MAX_Z, MAX_Z)
        z_B = tf.where(finite_B, tf.cast(z_B, tf.float32), 0.0)
        columns = [z_B, tf.cast(~finite_B, tf.float32)] if self.has_missing else [z_B]
        return tf.stack(columns, axis=1)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {"mean": self.mean, "std": self.std, "log1p": self.log1p, "has_missing": self.has_missing}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(_PACKAGE)
class QuantileIds(keras.layers.Layer):
    """Numbers ``(B,)`` → int32 ``(B,)``: 1 + how many boundaries are not above; missing is 0."""

    def __init__(self, boundaries: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.boundaries = list(boundaries)

    def call(self, number_B: Any) -> Any:
        """Finds the bucket of every number."""
        boundaries = usable(tf.constant(self.boundaries, tf.float32))
        bucket_B = tf.searchsorted(boundaries, usable(number_B), side="right")
        return tf.where(tf.math.is_finite(number_B), 1 + bucket_B, MISSING_ID)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "boundaries": self.boundaries}


@keras.saving.register_keras_serializable(_PACKAGE)
class WholeVectors(keras.layers.Layer):
    """Vectors ``(B, size)`` → the same, with zeros for those that have a missing or infinite element."""

    def call(self, vector: Any) -> Any:
        """Replaces the vectors that are not whole."""
        whole_B1 = tf.reduce_all(tf.math.is_finite(vector), axis=1, keepdims=True)
        return tf.where(whole_B1, vector, 0.0)
