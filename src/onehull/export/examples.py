"""Rows of the samples table as serialised ``tf.Example``: the second raw input of the SavedModel."""

from __future__ import annotations

from typing import Any

import polars as pl
import tensorflow as tf

from onehull.features.graph import raw_signature
from onehull.features.transform import Transform
from onehull.spec.samples import feature_column


def serialize_examples(transform: Transform, rows: pl.DataFrame) -> Any:
    """The same rows as serialised ``tf.Example`` ``(B,)``; missing values are left out."""
    names = list(raw_signature(transform))
    columns = {name: rows[feature_column(name)].to_list() for name in names}
    examples = [
        tf.train.Example(
            features=tf.train.Features(
                feature={name: feature for name in names if (feature := _feature(columns[name][row])) is not None}
            )
        ).SerializeToString()
        for row in range(len(rows))
    ]
    return tf.constant(examples, tf.string)


def _feature(value: Any) -> tf.train.Feature | None:
    """A value as a feature; None where it is missing."""
    items = value if isinstance(value, list) else [value]
    items = [item for item in items if item is not None]
    if not items:
        return None
    if isinstance(items[0], str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[item.encode() for item in items]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=items))
