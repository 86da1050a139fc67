"""The samples table's raw columns as analysis and statistics see them: null is missing, nothing else is."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from onehull.errors import DataError, suggest
from onehull.spec.features import CategoricalFeature, Feature, ListFeature, NumericFeature, VectorFeature
from onehull.spec.samples import SPLIT, SplitName, feature_column


def rows_of(samples: pl.LazyFrame, split: SplitName) -> pl.LazyFrame:
    """The rows of one part."""
    return samples.filter(pl.col(SPLIT) == split)


def check_columns(features: Mapping[str, Feature], samples: pl.LazyFrame) -> None:
    """Refuses a table that is not in the form of `onehull.spec.samples`.

    Raises:
        DataError: a column is absent or has another type.
    """
    schema = samples.collect_schema()
    if SPLIT not in schema:
        raise DataError(f"samples: column {SPLIT!r} is absent. {suggest(SPLIT, schema.names())}")
    for name, feature in features.items():
        column = feature_column(name)
        if column not in schema:
            raise DataError(f"samples: column {column!r} is absent. {suggest(column, schema.names())}")
        rule = _broken_rule(feature, schema[column])
        if rule is not None:
            raise DataError(f"samples: column {column!r} must hold {rule}. Received {schema[column]}.")


def ids(name: str) -> pl.Expr:
    """Ids of a categorical feature."""
    column = pl.col(feature_column(name)).cast(pl.String)
    return pl.when(column != "").then(column)


def id_lists(name: str, length: int) -> pl.Expr:
    """The first ids of each list; a list without any is null."""
    column = pl.col(feature_column(name)).cast(pl.List(pl.String))
    element = pl.element()
    kept = column.list.eval(element.filter(element != "")).list.head(length)
    return pl.when(kept.list.len() > 0).then(kept)


def numbers(name: str) -> pl.Expr:
    """Finite numbers as Float32, the precision of the graph; what overflows it is missing."""
    column = pl.col(feature_column(name)).cast(pl.Float32)
    return pl.when(column.is_finite()).then(column)


def vectors(name: str) -> pl.Expr:
    """Vectors whose elements are all finite."""
    column = pl.col(feature_column(name)).cast(pl.List(pl.Float32))
    usable = column.list.eval(pl.element().is_finite().fill_null(False)).list.all()
    return pl.when(usable).then(column)


def _broken_rule(feature: Feature, dtype: pl.DataType) -> str | None:
    if dtype == pl.Null:
        return None
    if isinstance(feature, CategoricalFeature):
        return None if dtype == pl.String else "text"
    if isinstance(feature, NumericFeature):
        return None if dtype.is_numeric() or dtype == pl.Boolean else "numbers"
    inner = dtype.inner if isinstance(dtype, (pl.List, pl.Array)) else None
    if isinstance(feature, ListFeature):
        return None if inner in {pl.String, pl.Null} else "lists of text"
    assert isinstance(feature, VectorFeature)  # noqa: S101  the union has no fifth kind
    return None if inner == pl.Null or (inner is not None and inner.is_numeric()) else "lists of numbers"
