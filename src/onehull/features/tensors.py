"""Rows of the samples table as the raw tensors of the transform graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import tensorflow as tf

from onehull.features.graph import raw_signature
from onehull.features.transform import Transform
from onehull.features.values import vectors
from onehull.spec.samples import feature_column


def raw_tensors(transform: Transform, rows: pl.DataFrame) -> dict[str, Any]:
    """Named raw tensors of some rows: text (missing ``""``), numbers (missing NaN), padded lists, vectors."""
    signature = raw_signature(transform)
    filled = rows.select(_filled(name, spec) for name, spec in signature.items())
    return {name: tf.constant(_array(filled[name], spec), spec.dtype) for name, spec in signature.items()}


def _filled(name: str, spec: Any) -> pl.Expr:
    """A raw column under the feature's name; what is missing is filled in where Polars can."""
    column = pl.col(feature_column(name)).alias(name)
    if spec.dtype == tf.string:
        return column.cast(pl.String).fill_null("") if spec.shape.rank == 1 else column.cast(pl.List(pl.String))
    return column.cast(pl.Float32).fill_null(np.nan) if spec.shape.rank == 1 else column.cast(pl.List(pl.Float32))


def _array(column: pl.Series, spec: Any) -> np.ndarray:
    """One column as an array that `tf.constant` takes."""
    if spec.shape.rank == 1:
        return column.to_numpy()
    if spec.dtype == tf.float32:
        return vectors(column, spec.shape[1], column.name)
    lists = [[item or "" for item in row or ()] for row in column.to_list()]
    width = max(map(len, lists), default=0)
    return np.array([row + [""] * (width - len(row)) for row in lists], dtype=object).reshape(len(lists), width)
