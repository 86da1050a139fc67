"""Rows of the samples table as the raw inputs of the SavedModel: named tensors, or serialised ``tf.Example``."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import tensorflow as tf

from onehull.features.graph import raw_signature
from onehull.features.transform import Transform
from onehull.spec.samples import feature_column


def raw_tensors(transform: Transform, rows: pl.DataFrame) -> dict[str, Any]:
    """Named raw tensors of some rows: text (missing ``""``), numbers (missing NaN), padded lists, vectors."""
    return {
        name: tf.constant(_column(rows[feature_column(name)], spec), spec.dtype)
        for name, spec in raw_signature(transform).items()
    }


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


def _column(values: pl.Series, spec: Any) -> np.ndarray:
    """One column as an array that `tf.constant` takes."""
    if spec.dtype == tf.string and spec.shape.rank == 1:
        return values.fill_null("").to_numpy()
    if spec.dtype == tf.string:
        lists = [[item or "" for item in row or ()] for row in values.to_list()]
        width = max((len(row) for row in lists), default=0)
        return np.array([row + [""] * (width - len(row)) for row in lists], dtype=object).reshape(len(lists), width)
    if spec.shape.rank == 1:
        return values.cast(pl.Float32).fill_null(np.nan).to_numpy()
    absent = [np.nan] * spec.shape[1]
    return np.array([absent if row is None else row for row in values.to_list()], dtype=np.float32)


def _feature(value: Any) -> tf.train.Feature | None:
    """A value as a feature; None where it is missing."""
    items = value if isinstance(value, list) else [value]
    items = [item for item in items if item is not None]
    if not items:
        return None
    if isinstance(items[0], str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[item.encode() for item in items]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=items))
