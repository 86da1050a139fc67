"""Attributes with a history: which of an id's rows was known at a moment.

A row has two moments: when its values became true, and when it was written. It counts from the later of the two on. Of
the rows that count, the one that became true last is the value; of those that became true together, the one written
last. A row that is older than one known before it, such as a gap filled in afterwards, is therefore never the value.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from onehull.events.columns import TIME_DTYPE
from onehull.spec.bundle import ID_COLUMN
from onehull.spec.samples import TIME

KNOWN = "known"
"""Column of a history: the moment from which the row is its id's value, as `onehull.events.columns.TIME_DTYPE`."""
TRUE_FROM, WRITTEN = "true from", "written"
"""Columns of the raw rows: the two moments, both given."""

_ORDER, _PLACE = "order of truth", "place before the join"


def history(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that are their id's value for some time, by id and moment.

    Args:
        rows: with ``id``, `TRUE_FROM` and `WRITTEN`; no two rows of an id equal in both moments.

    Returns:
        `KNOWN` in place of the two moments; ascending in (``id``, `KNOWN`), which is unique.
    """
    ordered = rows.sort(TRUE_FROM, WRITTEN).with_row_index(_ORDER)
    known = ordered.with_columns(pl.max_horizontal(TRUE_FROM, WRITTEN).alias(KNOWN)).sort(ID_COLUMN, KNOWN, _ORDER)
    newest = known.filter(pl.col(_ORDER) == pl.col(_ORDER).cum_max().over(ID_COLUMN))
    return newest.unique([ID_COLUMN, KNOWN], keep="last", maintain_order=True).drop(_ORDER, TRUE_FROM, WRITTEN)


def latest(table: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The value of each id at a moment, by id; an id of which nothing is known yet is left out.

    Args:
        table: what `history` returns.
        now: the moment, with a time zone.
    """
    counting = table.filter(pl.col(KNOWN) <= pl.lit(now, dtype=TIME_DTYPE))
    return counting.unique(ID_COLUMN, keep="last", maintain_order=True)


def attach_known(rows: pl.LazyFrame, table: pl.DataFrame, key: str) -> pl.LazyFrame:
    """Joins to every row what was known of its id at its time; rows keep their number and their order.

    Args:
        rows: with the id in column `key`, and ``time``.
        table: what `history` returns. A row without an id, without a time, or earlier than all that is known of its id
            gets nulls.
        key: ``user`` or ``item``.
    """
    # A join by time wants both sides in its order.
    left = rows.with_row_index(_PLACE).sort(TIME)
    joined = left.join_asof(
        table.lazy().sort(KNOWN),
        left_on=TIME,
        right_on=KNOWN,
        by_left=key,
        by_right=ID_COLUMN,
        strategy="backward",
        coalesce=False,
        check_sortedness=False,  # both sides are; Polars cannot see it within groups, and warns
    )
    return joined.sort(_PLACE).drop(_PLACE, KNOWN, ID_COLUMN, strict=False)
