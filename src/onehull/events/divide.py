"""The builder of splits: from the spec's section to a column with each row's part."""

from __future__ import annotations

from typing import cast

import polars as pl

from onehull.errors import DataError
from onehull.events.split import part_of_row, part_of_user, random_parts, split_by_column, split_by_time
from onehull.spec.data import ColumnSplit, FileSplit, RandomSplit, Split, TimeSplit
from onehull.spec.samples import SPLIT, TIME, USER, SplitName

SPLIT_VALUE, POSITION = "split.value", "position"
"""Helper columns of undivided rows: the split column as id text, and the row's number in a fixed order."""


def divide(rows: pl.LazyFrame, split: Split, *, rest: SplitName | None = "train") -> pl.LazyFrame:
    """Adds the column ``split``, and drops rows that belong to no part.

    Args:
        rows: with `TIME`, `USER` and `POSITION`, and `SPLIT_VALUE` where the split goes by a column.
        split: how rows are divided; files are not divided here.
        rest: part of the rows that a random split leaves.

    Raises:
        DataError: a split by time, and no row has a time.
    """
    match split:
        case TimeSplit():
            last = rows.select(pl.col(TIME).max()).collect(engine="streaming").item()
            if last is None:
                rule = "must hold the time of at least one row for a split by time"
                raise DataError(f"data.time: column {TIME!r} {rule}. Received {last}.")
            part = split_by_time(pl.col(TIME), last, split.validation, split.test)
        case ColumnSplit():
            part = split_by_column(pl.col(SPLIT_VALUE), split.validation, split.test, split.train)
        case RandomSplit():
            part = _random(rows, split, rest)
        case FileSplit():
            raise AssertionError("files are parts of their own")
    return rows.with_columns(part.alias(SPLIT)).filter(pl.col(SPLIT).is_not_null())


def _random(rows: pl.LazyFrame, split: RandomSplit, rest: SplitName | None) -> pl.Expr:
    if split.group == "user":
        users = rows.select(pl.col(USER).drop_nulls().unique().sort()).collect(engine="streaming").to_series()
        parts = random_parts(len(users), split.validation, split.test, split.seed, rest)
        part = part_of_user(pl.col(USER), users, parts)
        # Rows without a user have nobody to keep together: they never decide over a model.
        return part if rest is None else pl.when(pl.col(USER).is_null()).then(pl.lit(rest)).otherwise(part)
    count = cast("int", rows.select(pl.len()).collect(engine="streaming").item())
    return part_of_row(pl.col(POSITION), random_parts(count, split.validation, split.test, split.seed, rest))
