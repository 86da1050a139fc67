"""Raw values as they come, from Python, NumPy or Polars, brought to one plain form for each kind of feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from onehull.errors import DataError
from onehull.spec.samples import id_text

Column = Sequence[object] | np.ndarray | pl.Series
_SEQUENCES = (list, tuple, np.ndarray, pl.Series)


def id_texts(column: Column) -> list[str | None]:
    """One id text or None (missing) a row; an empty text may stay one."""
    values = _plain(column)
    return [value if type(value) is str else _text(value) for value in values]


def id_lists(column: Column, separator: str | None) -> list[list[str]]:
    """The ids of each row that are there."""
    if isinstance(column, pl.Series) and column.dtype == pl.List(pl.String):
        return [[text for text in row if text] if row else [] for row in column.to_list()]
    return [_ids(value, separator) for value in _plain(column)]


def numbers(column: Column, name: str) -> np.ndarray:
    """float32 ``(B,)``; missing is NaN, and what float32 cannot hold is infinite.

    Raises:
        DataError: a value that is no number, with the feature's name.
    """
    if isinstance(column, pl.Series) and (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        wide_B = column.cast(pl.Float64).to_numpy()
    else:
        wide_B = _wide(_plain(column), name)
    with np.errstate(over="ignore"):
        return wide_B.astype(np.float32)


def vectors(column: Column, size: int, name: str) -> np.ndarray:
    """float32 ``(B, size)``; a missing vector is NaN.

    Raises:
        DataError: a vector of another size or with something that is no number.
    """
    if isinstance(column, pl.Series) and column.dtype == pl.List(pl.Float32):
        return _series_vectors(column, size, name)
    values = _plain(column)
    vectors_BS = np.full((len(values), size), np.nan, np.float32)
    for row, value in enumerate(values):
        if value is None:
            continue
        if not isinstance(value, _SEQUENCES) or len(value) != size:
            raise _size_error(name, size, value)
        vectors_BS[row] = numbers(value, name)
    return vectors_BS


def _plain(column: Any) -> Sequence[Any]:
    """A sequence of plain Python values."""
    if isinstance(column, pl.Series):
        return column.to_list()
    if isinstance(column, np.ndarray):
        return column.tolist()
    return column


def _text(value: object) -> str | None:
    return id_text(value.item() if isinstance(value, np.generic) else value)


def _ids(value: object, separator: str | None) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        parts: Sequence[Any] = [value] if separator is None else [part.strip() for part in value.split(separator)]
    elif isinstance(value, _SEQUENCES):
        parts = _plain(value)
    else:
        parts = [value]
    return [text for part in parts if (text := _text(part))]


def _wide(values: Sequence[Any], name: str) -> np.ndarray:
    try:
        wide_B = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        wide_B = np.array([_number(value, name) for value in values], dtype=np.float64)
    if wide_B.ndim != 1:
        raise DataError(f"feature {name!r} must hold one number a row. Received {values[0]!r}.")
    return wide_B


def _number(value: Any, name: str) -> float:
    if value is None or value == "":
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError) as error:
        raise DataError(f"feature {name!r} must hold numbers. Received {value!r}.") from error


def _series_vectors(column: pl.Series, size: int, name: str) -> np.ndarray:
    present_B = column.is_not_null()
    present = column.filter(present_B)
    wrong = present.filter(present.list.len() != size)
    if len(wrong):
        raise _size_error(name, size, wrong[0])
    vectors_BS = np.full((len(column), size), np.nan, np.float32)
    vectors_BS[present_B.to_numpy()] = present.explode().to_numpy().reshape(-1, size)
    return vectors_BS


def _size_error(name: str, size: int, value: Any) -> DataError:
    shown = f"{len(value)} numbers" if isinstance(value, _SEQUENCES) else repr(value)
    return DataError(f"feature {name!r} must hold vectors of size {size}. Received {shown}.")
