"""The last day against the first: PSI and Jensen–Shannon divergence of each feature, and the values that moved.

Numbers are cut at the tenths of the first day; ids are the most frequent of both days, and the others together; missing
is a value of its own. Half a row is added to every bin, so that a value that is new has a finite index. Two days of one
distribution have a PSI of about (B - 1)(1/n + 1/m) over B bins of n and m rows: what is not far above that is chance.

PSI: Siddiqi, Credit Risk Scorecards (2006), with its limits 0.1 and 0.25. Jensen–Shannon: Lin (1991), eq. 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from onehull.monitor.report import Drift, FeatureDrift, Move
from onehull.monitor.sample import drawn
from onehull.monitor.values import Floats
from onehull.spec import Spec
from onehull.spec.features import Feature, NumericFeature, VectorFeature
from onehull.spec.samples import SPLIT, TIME, feature_column

_ROWS = 100_000
"""Of each day."""
_FEWEST_ROWS = 50
_TENTHS = 10
_IDS = 50
_MOVED = 3
_OTHERS, _MISSING = "all others", "missing"
_LONGEST = 40

Bins = list[tuple[str, int, int]]
"""Name of a bin, rows on the first day, rows on the last."""


def drift(spec: Spec, samples: Path) -> Drift | None:
    """Compares the first and the last day that have rows enough; without times, the training part and the test part.

    Args:
        spec: its features, and the seed of ``leakage``.
        samples: a samples table.

    Returns:
        None where there are no two such days.
    """
    frame = pl.scan_parquet(samples)
    days = _days(frame)
    column = SPLIT if days is None else "day"
    first, last = ("train", "test") if days is None else days
    if first == last:
        return None
    dated = frame.with_columns(pl.col(TIME).dt.date().alias("day"))
    names = [feature_column(name) for name in spec.features]
    parts = [
        drawn(dated.filter(pl.col(column) == value).select(names), _ROWS, spec.leakage.seed) for value in (first, last)
    ]
    (one, rows_first), (other, rows_last) = parts
    if not rows_first or not rows_last:
        return None
    found = [
        _feature_drift(name, feature, one[feature_column(name)], other[feature_column(name)])
        for name, feature in spec.features.items()
    ]
    found.sort(key=lambda feature: -feature.psi)
    return Drift(first=str(first), last=str(last), rows_first=rows_first, rows_last=rows_last, features=tuple(found))


def psi(first: Floats, last: Floats) -> float:
    """Population stability index of two counts ``(B,)``."""
    p, q = _shares(first), _shares(last)
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(first: Floats, last: Floats) -> float:
    """Jensen–Shannon divergence of two counts ``(B,)``, in bits."""
    p, q = _shares(first), _shares(last)
    middle = (p + q) / 2
    return float((p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2)


def _days(frame: pl.LazyFrame) -> tuple[date, date] | None:
    """The first and the last day with rows enough: a log often begins and ends in the middle of one."""
    counted = (
        frame.group_by(pl.col(TIME).dt.date().alias("day"))
        .agg(pl.len().alias("rows"))
        .drop_nulls()
        .sort("day")
        .collect(engine="streaming")
    )
    if counted.is_empty():
        return None
    enough = counted.filter(pl.col("rows") >= max(_FEWEST_ROWS, counted["rows"].median() / 4))  # type: ignore[operator]
    days = enough["day"] if len(enough) else counted["day"]
    return days[0], days[-1]


def _feature_drift(name: str, feature: Feature, first: pl.Series, last: pl.Series) -> FeatureDrift:
    if isinstance(feature, VectorFeature):
        found = [
            _compared(name, _number_bins(first.list.get(place), last.list.get(place)), place)
            for place in range(feature.size)
        ]
        return max(found, key=lambda one: one.psi)
    bins = _number_bins(first, last) if isinstance(feature, NumericFeature) else _id_bins(first, last)
    return _compared(name, bins)


def _compared(name: str, bins: Bins, coordinate: int | None = None) -> FeatureDrift:
    names = [name for name, _, _ in bins]
    first, last = np.array([counts for _, *counts in bins], dtype=np.float64).T
    share_first, share_last = (counts / max(1, counts.sum()) for counts in (first, last))
    order = np.argsort(-np.abs(share_last - share_first), kind="stable")[:_MOVED]
    return FeatureDrift(
        feature=name,
        psi=psi(first, last),
        js=jensen_shannon(first, last),
        by_chance=float((len(bins) - 1) * (1 / max(1, first.sum()) + 1 / max(1, last.sum()))),
        coordinate=coordinate,
        moved=tuple(
            Move(value=names[place], first=float(share_first[place]), last=float(share_last[place]))
            for place in order
            if share_first[place] != share_last[place]
        ),
    )


def _number_bins(first: pl.Series, last: pl.Series) -> Bins:
    values = [column.drop_nulls().drop_nans().to_numpy() for column in (first, last)]
    basis = values[0] if len(values[0]) else values[1]
    edges = np.unique(np.quantile(basis, np.linspace(0, 1, _TENTHS + 1)[1:-1])) if len(basis) else np.zeros(0)
    counts = [np.bincount(np.searchsorted(edges, one), minlength=len(edges) + 1) for one in values]
    bins = [(name, int(one), int(other)) for name, one, other in zip(_ranges(edges), *counts, strict=True)]
    return _with_missing(bins, first, last, values)


def _ranges(edges: Floats) -> list[str]:
    """Names of the ranges between edges; each holds its upper edge."""
    if not len(edges):
        return ["any"]
    texts = [f"{edge:.4g}" for edge in edges]
    middle = [f"{low} to {high}" for low, high in pairwise(texts)]
    return [f"up to {texts[0]}", *middle, f"above {texts[-1]}"]


def _id_bins(first: pl.Series, last: pl.Series) -> Bins:
    """The most frequent ids of the two days; of bags every element counts."""
    flat = [column.explode() if column.dtype == pl.List else column for column in (first, last)]
    counted = [column.drop_nulls().value_counts(name="rows") for column in flat]
    both = counted[0].join(counted[1], on=first.name, how="full", coalesce=True, suffix="_last").fill_null(0)
    total = (pl.col("rows") + pl.col("rows_last")).alias("total")
    ranked = both.with_columns(total).sort("total", first.name, descending=[True, False])
    bins = [(_short(name), one, other) for name, one, other, _ in ranked.head(_IDS).iter_rows()]
    rest = ranked.slice(_IDS)
    if len(rest):
        bins.append((_OTHERS, int(rest["rows"].sum()), int(rest["rows_last"].sum())))
    return _with_missing(bins, first, last, [column.drop_nulls() for column in flat])


def _with_missing(bins: Bins, first: pl.Series, last: pl.Series, present: Sequence[Any]) -> Bins:
    """Adds the rows without a value where a day has some; never returns nothing."""
    if first.dtype == pl.List:
        before, after = (int((column.list.len().fill_null(0) == 0).sum()) for column in (first, last))
    else:
        before, after = (len(column) - len(values) for column, values in zip((first, last), present, strict=True))
    return [*bins, (_MISSING, before, after)] if before or after or not bins else bins


def _short(value: str) -> str:
    return repr(value) if len(value) <= _LONGEST else repr(value[: _LONGEST - 1]) + "…"


def _shares(counts: Floats) -> Floats:
    shares: Floats = (counts + 0.5) / (counts + 0.5).sum()
    return shares
