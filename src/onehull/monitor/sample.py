"""Rows of a samples table that are held in memory: never more than a limit, drawn with a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from onehull.spec.samples import SPLIT

_PLACE = "place"


def training_rows(samples: Path, limit: int, seed: int) -> tuple[pl.DataFrame, int]:
    """At most `limit` training rows in the order of the table, and how many there are."""
    return drawn(pl.scan_parquet(samples).filter(pl.col(SPLIT) == "train"), limit, seed)


def drawn(rows: pl.LazyFrame, limit: int, seed: int) -> tuple[pl.DataFrame, int]:
    """At most `limit` rows in their order, and how many there are.

    Args:
        rows: read twice, as a stream.
        limit: of rows that are kept.
        seed: of the draw.
    """
    total = int(rows.select(pl.len()).collect(engine="streaming").item())
    if total > limit:
        chosen = pl.Series(np.sort(np.random.default_rng(seed).choice(total, limit, replace=False)))
        rows = rows.with_row_index(_PLACE).filter(pl.col(_PLACE).is_in(chosen.cast(pl.UInt32).implode())).drop(_PLACE)
    return rows.collect(engine="streaming"), total
