"""Values that did not exist yet at their impression.

Two signs of them can be seen: a feature that holds moments, and holds one later than the impression; and a value from
an attribute table with a history, whose first row for that id is later than the impression. A table without a history
is a snapshot of an age that nobody can see: a note says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl

from onehull.events import feature_sources
from onehull.events.columns import TIME_DTYPE, TimeUnit, dtypes, id_column, moments
from onehull.events.files import find_files, scan_table
from onehull.events.sources import ENTITIES, KEY_OF, Entity
from onehull.monitor.findings import Finding, level_of
from onehull.spec import Spec
from onehull.spec.data import Table
from onehull.spec.features import CategoricalFeature, NumericFeature
from onehull.spec.samples import TIME, feature_column

_BEFORE, _AFTER = timedelta(days=3650), timedelta(days=366)
"""How far from the impressions values may lie that are taken for moments."""
_ALIKE = 0.95
"""Share of the values that must look like moments."""
_FEWEST = 20
_UNITS: dict[TimeUnit, timedelta] = {
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "us": timedelta(microseconds=1),
}


def newer_findings(spec: Spec, rows: pl.DataFrame, data_dir: Path | None) -> tuple[list[Finding], list[str]]:
    """Features newer than their impressions, and what could not be seen.

    Args:
        spec: the spec.
        rows: samples.
        data_dir: directory of the input; without it, attribute tables are not looked at.
    """
    found, notes = list(_moment_findings(spec, rows)), []
    for entity in ENTITIES if data_dir is not None else ():
        table: Table | None = getattr(spec.data.tables, entity)
        if table is None:
            continue
        if table.time is None:
            notes.append(
                f"data.tables.{entity} is a snapshot of unknown age: whether its values were known at the "
                f"impressions cannot be seen. Name the column of their time in data.tables.{entity}.time"
            )
        elif data_dir is not None:
            found += _history_findings(spec, rows, data_dir, entity, table)
    return found, notes


def _moment_findings(spec: Spec, rows: pl.DataFrame) -> Iterator[Finding]:
    """Features whose values are moments, some of them later than the impression."""
    first, last = rows[TIME].min(), rows[TIME].max()
    if first is None:
        return
    for name, feature in spec.features.items():
        column = rows[feature_column(name)]
        if not isinstance(feature, (NumericFeature, CategoricalFeature)) or column.count() < _FEWEST:
            continue
        units: Sequence[TimeUnit] = ("s", "ms", "us") if isinstance(feature, NumericFeature) else ("iso",)
        for unit in units:
            moment = rows.select(moments(pl.col(column.name), column.dtype, unit)).to_series()
            plausible = moment.is_between(
                pl.lit(first, TIME_DTYPE) - _BEFORE, pl.lit(last, TIME_DTYPE) + _AFTER
            ).fill_null(value=False)
            if plausible.sum() < _ALIKE * column.count():
                continue
            later = int((moment > rows[TIME] + _UNITS.get(unit, timedelta(0))).sum())
            if later:
                text = f"it holds moments, and {later:,} of {column.count():,} are later than the impression"
                yield _finding(spec, name, later / column.count(), text)
            break


def _history_findings(
    spec: Spec, rows: pl.DataFrame, data_dir: Path, entity: Entity, table: Table
) -> Iterator[Finding]:
    """Values of ids of which nothing was known yet: a correct join leaves none."""
    own_id = getattr(spec.data, entity)
    sources = feature_sources(spec, data_dir)
    names = [
        name
        for name, feature in spec.features.items()
        if sources[name] == entity and (feature.column or name) != own_id
    ]
    raw = scan_table(find_files(data_dir, table.path))
    known = dtypes(raw)
    dated = [column for column in (table.time, table.created) if column is not None]
    knowing = [moments(pl.col(column), known[column], spec.data.time_unit) for column in dated]
    begins = raw.group_by(id_column(pl.col(table.key), known[table.key]).alias("id")).agg(
        pl.max_horizontal(knowing).min().alias("begins")
    )
    early = (
        rows.lazy()
        .join(begins, left_on=KEY_OF[entity], right_on="id", how="left", maintain_order="left")
        .select((pl.col("begins") > pl.col(TIME)).fill_null(value=False))
        .collect(engine="streaming")
        .to_series()
    )
    for name in names:
        count = int((early & rows[feature_column(name)].is_not_null()).sum())
        if count:
            text = (
                f"{count:,} of {len(rows):,} rows have a value of data.tables.{entity} from before the {entity}'s first"
            )
            yield _finding(spec, name, count / len(rows), text, certain=True)


def _finding(spec: Spec, name: str, share: float, text: str, *, certain: bool = False) -> Finding:
    limit = 0.0 if certain else spec.leakage.newer_share
    level = level_of(name, spec.leakage, leak=share >= limit)
    return Finding(level=level, sign="newer", feature=name, task=None, figure=share, limit=limit, text=text)
