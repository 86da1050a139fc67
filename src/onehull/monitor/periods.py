"""Labels day by day: counts of known labels, their mean and their spread, in one pass over the samples."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from onehull.monitor.report import Labels, Period, Stretch
from onehull.spec.samples import SPLIT, SPLITS, TIME, label_column

_MOST = 100
"""Periods of a report; a longer log is shown by week, and a very long one by month."""
_STRETCHES: tuple[tuple[Stretch, str, int], ...] = (("day", "1d", 1), ("week", "1w", 7))


def label_periods(samples: Path, tasks: Iterable[str]) -> tuple[Stretch, tuple[Period, ...]]:
    """Rows and labels by day; by part, where no row has a time.

    Args:
        samples: a samples table; rows without a time are in no period.
        tasks: names of the tasks.
    """
    frame = pl.scan_parquet(samples)
    ends = frame.select(pl.col(TIME).min().alias("first"), pl.col(TIME).max().alias("last")).collect(engine="streaming")
    first, last = ends.row(0)
    if first is None:
        by: Stretch = "part"
        begins, order = pl.col(SPLIT), pl.col("begins").replace_strict(list(SPLITS), list(range(len(SPLITS))))
    else:
        by, width = next(
            ((name, width) for name, width, days in _STRETCHES if (last - first).days / days < _MOST), ("month", "1mo")
        )
        begins, order = pl.col(TIME).dt.truncate(width).dt.strftime("%Y-%m-%d"), pl.col("begins")
        frame = frame.filter(pl.col(TIME).is_not_null())
    counts = [pl.len().alias("rows")]
    for name in tasks:
        label = pl.col(label_column(name))
        counts += [label.count().alias(f"{name}/known"), label.mean().alias(f"{name}/mean")]
        counts.append(label.std(ddof=0).alias(f"{name}/deviation"))
    found = frame.group_by(begins.alias("begins")).agg(counts).sort(order).collect(engine="streaming")
    return by, tuple(
        Period(
            name=row["begins"],
            rows=row["rows"],
            tasks={
                name: Labels(known=row[f"{name}/known"], mean=row[f"{name}/mean"], deviation=row[f"{name}/deviation"])
                for name in tasks
            },
        )
        for row in found.iter_rows(named=True)
    )
