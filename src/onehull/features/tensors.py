"""Rows of the samples table as the raw tensors of the transform graph."""

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
