"""Raw columns as the samples table holds them: id text, numbers, lists, vectors and moments, as Polars expressions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import polars as pl

from onehull.spec.features import Feature, ListFeature, NumericFeature, VectorFeature
from onehull.spec.samples import id_text

TimeUnit = Literal["s", "ms", "us", "iso"]

TIME_DTYPE = pl.Datetime("us", "UTC")
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_EXACT_FLOAT = 2.0**53


def feature_dtype(feature: Feature) -> pl.DataType:
    """Dtype of a feature's column in the samples table."""
    if isinstance(feature, NumericFeature):
        return pl.Float64()
    if isinstance(feature, ListFeature):
        return pl.List(pl.String)
    if isinstance(feature, VectorFeature):
        return pl.List(pl.Float32)
    return pl.String()


def feature_rule(feature: Feature, dtype: pl.DataType) -> str | None:
    """The rule that a column's dtype breaks for a feature that reads it; None where it fits."""
    if dtype == pl.Null:
        return None
    if isinstance(feature, NumericFeature):
        return None if is_number(dtype) else "must hold numbers"
    if isinstance(feature, VectorFeature):
        return None if _is_list(dtype) and is_number(_inner(dtype)) else "must hold lists of numbers"
    if isinstance(feature, ListFeature):
        if feature.separator is None:
            return None if _is_list(dtype) else "must hold lists (or text, with a separator)"
        return "must hold text where a separator is given" if _is_list(dtype) else None
    return "must hold one value a row, not lists" if dtype.is_nested() else None


def feature_values(column: pl.Expr, dtype: pl.DataType, feature: Feature) -> pl.Expr:
    """A feature's raw values in the dtype of the samples table; null is missing.

    Args:
        column: the raw column.
        dtype: its dtype, one that `feature_rule` accepts.
        feature: what reads it.
    """
    if dtype == pl.Null:
        return column.cast(feature_dtype(feature))
    if isinstance(feature, NumericFeature):
        return finite(column, dtype)
    if isinstance(feature, VectorFeature):
        return _vector(column, dtype)
    if isinstance(feature, ListFeature):
        return _id_list(column, dtype, feature.separator)
    return id_column(column, dtype)


def id_column(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """`onehull.spec.samples.id_text` for a whole column of any dtype."""
    if dtype == pl.String:
        return pl.when(column != "").then(column)  # an empty text is missing
    if dtype.is_integer() or dtype in {pl.Boolean, pl.Null}:
        return column.cast(pl.String)
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return id_column(column.cast(pl.String), pl.String())
    if dtype.is_float():
        exact = column.cast(pl.Float64)
        whole = (exact == exact.floor()) & (exact.abs() < _EXACT_FLOAT)
        integers = exact.cast(pl.Int64, strict=False).cast(pl.String)
        # Shortest digits differ between engines; Python's are the rule, and ids are rarely fractions.
        others = pl.when(~whole.fill_null(True)).then(exact).map_batches(_python_ids, pl.String, is_elementwise=True)
        return pl.when(whole).then(integers).otherwise(others)
    return column.map_batches(_python_ids, pl.String, is_elementwise=True)


def id_set(values: Iterable[object]) -> list[str]:
    """Id texts of scalars that a spec names, sorted."""
    return sorted({text for value in values if (text := id_text(value)) is not None})


def finite(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Numbers and booleans as Float64; NaN and infinities become null."""
    number = column.cast(pl.Float64)
    return pl.when(number.is_finite()).then(number) if dtype.is_float() else number


def label_values(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Labels as Float64; NaN becomes null, an infinite label stays to be found."""
    number = column.cast(pl.Float64)
    return number.fill_nan(None) if dtype.is_float() else number


def moments(column: pl.Expr, dtype: pl.DataType, unit: TimeUnit) -> pl.Expr:
    """Moments as `TIME_DTYPE`.

    Args:
        column: numbers since 1970, ISO 8601 text, or a date or time dtype (without a zone: UTC).
        dtype: dtype of the column.
        unit: unit of numbers; ``iso`` for text.
    """
    if dtype == pl.Null:
        return column.cast(TIME_DTYPE)
    if isinstance(dtype, pl.Datetime):
        zoned = column if dtype.time_zone else column.dt.replace_time_zone("UTC")
        return zoned.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    if dtype == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if unit == "iso":
        return _iso_moments(column)
    if dtype.is_integer():
        return (column.cast(pl.Int64) * _MICROSECONDS[unit]).cast(TIME_DTYPE)
    number = finite(column, dtype)
    return (number * _MICROSECONDS[unit]).round().cast(pl.Int64, strict=False).cast(TIME_DTYPE)


def time_rule(dtype: pl.DataType, unit: TimeUnit) -> str | None:
    """The rule that a time column's dtype breaks; None where it fits."""
    if isinstance(dtype, pl.Datetime) or dtype in {pl.Date, pl.Null}:
        return None
    if unit == "iso":
        return None if dtype == pl.String else "must hold ISO 8601 text where data.time_unit is iso"
    return None if dtype.is_numeric() else f"must hold numbers where data.time_unit is {unit}"


def is_number(dtype: pl.DataType) -> bool:
    """Whether a dtype is usable as numbers: numeric or boolean."""
    return dtype.is_numeric() or dtype in {pl.Boolean, pl.Null}


def dtypes(frame: pl.LazyFrame) -> Mapping[str, pl.DataType]:
    """Names and dtypes of a lazy table's columns."""
    return frame.collect_schema()


def _python_ids(values: pl.Series) -> pl.Series:
    return pl.Series(values.name, [id_text(value) for value in values.to_list()], dtype=pl.String)


def _is_list(dtype: pl.DataType) -> bool:
    return isinstance(dtype, (pl.List, pl.Array))


def _inner(dtype: Any) -> pl.DataType:
    inner = dtype.inner
    return inner if isinstance(inner, pl.DataType) else inner()


def _as_list(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return column.arr.to_list() if isinstance(dtype, pl.Array) else column


def _id_list(column: pl.Expr, dtype: pl.DataType, separator: str | None) -> pl.Expr:
    """Lists of id texts without missing ones; a missing list, or an empty text, is null."""
    if separator is None:
        return _as_list(column, dtype).list.eval(id_column(pl.element(), _inner(dtype)).drop_nulls())
    parts = id_column(column, dtype).str.split(separator)
    return parts.list.eval(id_column(pl.element().str.strip_chars(), pl.String()).drop_nulls())


def _vector(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Vectors as lists of Float32; one with a missing or infinite element is missing."""
    vector = _as_list(column, dtype).cast(pl.List(pl.Float32))
    usable = vector.list.eval(pl.element().is_finite().fill_null(False)).list.all()
    return pl.when(usable).then(vector)


def _iso_moments(column: pl.Expr) -> pl.Expr:
    """ISO 8601 text, with or without an offset; what cannot be read is null."""
    text = column.str.strip_chars().str.replace(" ", "T", literal=True)
    dated = pl.when(text.str.len_bytes() == 10).then(text + "T00:00:00").otherwise(text)
    zoned = pl.when(dated.str.contains(r"(Z|z|[+-]\d{2}:?\d{2})$")).then(dated).otherwise(dated + "Z")
    read = zoned.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False)
    return read.dt.convert_time_zone("UTC")
