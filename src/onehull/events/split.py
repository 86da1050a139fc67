"""Which part a row belongs to: by time, by a column, at random, or by its file. Null is: in no part."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from onehull.events.columns import id_set
from onehull.spec.data import Scalar
from onehull.spec.samples import SPLITS, SplitName

_DTYPE = pl.Enum(SPLITS)


def split_by_time(moment: pl.Expr, last: datetime, validation: timedelta, test: timedelta) -> pl.Expr:
    """The last stretch is the test, the one before it validation, the rest training.

    Args:
        moment: time of each row.
        last: the latest time of any row; stretches are counted back from it.
        validation: length of the validation stretch.
        test: length of the test stretch.
    """
    return (
        pl.when(moment > last - test)
        .then(_part("test"))
        .when(moment > last - test - validation)
        .then(_part("validation"))
        .otherwise(_part("train"))
    )


def split_by_column(
    text: pl.Expr, validation: Sequence[Scalar], test: Sequence[Scalar], train: Sequence[Scalar] | None
) -> pl.Expr:
    """Rows by the value of a column, compared as id text.

    Args:
        text: the column as id text.
        validation: values of validation rows.
        test: values of test rows.
        train: values of training rows. Default: all others, and missing ones.
    """
    rest = pl.lit(value=True) if train is None else text.is_in(id_set(train))
    return (
        pl.when(text.is_in(id_set(test)).fill_null(False))
        .then(_part("test"))
        .when(text.is_in(id_set(validation)).fill_null(False))
        .then(_part("validation"))
        .when(rest.fill_null(False))
        .then(_part("train"))
    )


def random_parts(count: int, validation: float, test: float, seed: int, rest: SplitName | None = "train") -> pl.Series:
    """Parts drawn at random: a function of the seed and the row's number alone, with exact shares.

    Args:
        count: number of rows (or of users).
        validation: share of validation.
        test: share of the test.
        seed: of the draw.
        rest: part of the rows that neither share takes.

    Returns:
        One part for each row ``(count,)``.
    """
    order = np.random.default_rng(seed).permutation(count)
    first = round(count * validation)
    end = count if validation + test >= 1 - 1e-9 else first + round(count * test)
    codes = np.full(count, SPLITS.index(rest) if rest is not None else len(SPLITS), dtype=np.uint8)
    codes[order[:first]] = SPLITS.index("validation")
    codes[order[first:end]] = SPLITS.index("test")
    names = pl.Series([*SPLITS, None], dtype=_DTYPE)
    return names.gather(codes)


def part_of_row(position: pl.Expr, parts: pl.Series) -> pl.Expr:
    """The part of each row, by its position among the rows that were drawn."""
    return position.map_batches(parts.gather, _DTYPE, is_elementwise=True)


def part_of_user(user: pl.Expr, users: pl.Series, parts: pl.Series) -> pl.Expr:
    """The part of each row's user.

    Args:
        user: user id of each row.
        users: distinct users, sorted.
        parts: one part for each of them.
    """
    return user.replace_strict(users, parts, default=None, return_dtype=_DTYPE)


def one_part(name: SplitName) -> pl.Expr:
    """All rows belong to one part."""
    return _part(name)


def _part(name: SplitName) -> pl.Expr:
    return pl.lit(name, dtype=_DTYPE)
