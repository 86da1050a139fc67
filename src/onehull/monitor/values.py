"""Feature values as ordered codes, so that whatever is asked of them is a count.

Legend: ``N`` rows, ``E`` elements of lists, ``D`` coordinates, ``V`` distinct values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_VECTOR_NUMBERS = 6_000_000
"""Numbers of one vector feature that are sorted; longer vectors are looked at on fewer rows."""


@dataclass(frozen=True)
class Numbers:
    """A number a row, as the place of its value among the distinct ones: order and ties are all that is asked of it."""

    code_N: Ints
    """-1 is missing."""
    values: int
    """Distinct values."""

    @property
    def missing(self) -> Mask:
        """Rows without a value."""
        return self.code_N < 0


@dataclass(frozen=True)
class Ids:
    """Ids: one a row, or a bag of them; a row without one has the id 0, which stands for missing."""

    code_E: Ints
    start_N: Ints
    """Where each row's elements begin; no row is without one."""
    values: int
    """Distinct ids, missing included."""

    @property
    def single(self) -> bool:
        """One id a row."""
        return len(self.code_E) == len(self.start_N)

    @property
    def missing(self) -> Mask:
        """Rows without an id."""
        return self.code_E[self.start_N] == 0


def numbers(values: NDArray[np.floating[Any]]) -> Numbers:
    """Numbers ``(N,)``; NaN is missing."""
    code_N = np.full(len(values), -1, dtype=np.int64)
    present = ~np.isnan(values)
    distinct, code_N[present] = np.unique(values[present], return_inverse=True)
    return Numbers(code_N, len(distinct))


def number_column(column: pl.Series) -> Numbers:
    """A Float64 column."""
    return numbers(column.fill_null(float("nan")).to_numpy())


def id_column(column: pl.Series) -> Ids:
    """A String column, or List(String); an empty list is missing."""
    if column.dtype == pl.String:
        code_E = _codes(column)
        return Ids(code_E, np.arange(len(column)), int(code_E.max(initial=0)) + 1)
    length_N = column.list.len().fill_null(0).clip(lower_bound=1).cast(pl.Int64).to_numpy()
    nothing = pl.lit(None, dtype=pl.String).implode()
    # What an empty list explodes to differs between releases of Polars.
    filled = column.to_frame("bag").select(pl.when(pl.col("bag").list.len() > 0).then("bag").otherwise(nothing))
    code_E = _codes(filled.to_series().explode())
    return Ids(code_E, np.cumsum(length_N) - length_N, int(code_E.max(initial=0)) + 1)


def coordinates(column: pl.Series, size: int) -> Iterator[tuple[Floats, slice]]:
    """The coordinates of a List(Float32) column one by one, with the rows that they are given for."""
    step = max(1, -(-len(column) * size // _VECTOR_NUMBERS))
    rows = slice(None, None, step)
    thinned = column.gather_every(step)
    vector_ND = np.full((len(thinned), size), np.nan)
    present = thinned.is_not_null().to_numpy()
    vector_ND[present] = thinned.drop_nulls().explode().to_numpy().reshape(-1, size)
    for number in range(size):
        yield vector_ND[:, number], rows


def _codes(ids: pl.Series) -> Ints:
    """1, 2, … in the order of appearance; null is 0."""
    code = ids.rank("dense").fill_null(0)
    return code.cast(pl.Int64).to_numpy()
