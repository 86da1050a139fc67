"""What of a spec goes into the feature store: one view an attribute table, its rows and their moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from onehull.errors import Fault, SpecError
from onehull.events.columns import TIME_DTYPE
from onehull.events.entities import read_table
from onehull.events.files import find_files
from onehull.events.history import KNOWN, latest
from onehull.events.sources import ENTITIES, Entity, feature_sources
from onehull.spec import Spec
from onehull.spec.bundle import ID_COLUMN
from onehull.spec.data import Table
from onehull.spec.features import Feature
from onehull.spec.samples import feature_column

KEY, FROM, FROM_US = "_id", "_from", "_from_us"
"""Columns of a stored row beside the features, whose names never begin with an underscore: the id; the moment from
which the row counts; the same in microseconds since 1970, as a value that an online read returns."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class View:
    """One attribute table as the store holds it.

    Attributes:
        entity: ``user`` or ``item``; also the view's name.
        table: what the spec says of it.
        features: the features that read a column of it, without those that read the id itself.
        files: the table's files.
    """

    entity: Entity
    table: Table
    features: Mapping[str, Feature]
    files: tuple[Path, ...]


def spec_views(spec: Spec, data_dir: Path) -> list[View]:
    """The views of a spec, users before items.

    Args:
        spec: the spec.
        data_dir: directory that its paths are relative to.

    Raises:
        SpecError: no feature reads an attribute table, so that a store would be empty.
        DataError: a table cannot be read.
    """
    sources = feature_sources(spec, data_dir)
    views = []
    for entity in ENTITIES:
        table, id_name = getattr(spec.data.tables, entity), getattr(spec.data, entity)
        of_entity = {name: spec.features[name] for name, source in sources.items() if source == entity}
        features = {name: feature for name, feature in of_entity.items() if (feature.column or name) != id_name}
        if table is not None and features:
            views.append(View(entity, table, features, tuple(find_files(data_dir, table.path))))
    if not views:
        remedy = "A feature store holds attributes of users and items: name their table."
        raise SpecError([Fault("data.tables", "must name a table that a feature reads", None, remedy)])
    return views


def all_rows(view: View, spec: Spec) -> pl.DataFrame:
    """Every row of a view with the moment from which it counts; a table without a history counts since 1970.

    The moment is the later of when a value became true and when it was written, and rows that never are the latest are
    left out (`onehull.events.history`). Whoever joins on it, Feast's own tools included, cannot see what was written
    later (feast#6615).

    Raises:
        DataError: see `onehull.events.entities.read_table`.
    """
    rows = read_table(list(view.files), view.table, view.features, spec.data.time_unit)
    if KNOWN not in rows.columns:
        rows = rows.with_columns(pl.lit(_EPOCH, dtype=TIME_DTYPE).alias(KNOWN))
    return _stored(rows, view)


def latest_rows(view: View, rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The row of each id that counts now; without a history it is as old as the newest of the table's files.

    Args:
        view: the view.
        rows: what `all_rows` returns.
        now: the moment, with a time zone.
    """
    if view.table.time is not None:
        found = rows.rename({KEY: ID_COLUMN, FROM: KNOWN})
        return latest(found, now).rename({ID_COLUMN: KEY, KNOWN: FROM})
    changed = datetime.fromtimestamp(max(file.stat().st_mtime for file in view.files), UTC)
    return _with_moment(rows.with_columns(pl.lit(min(changed, now), dtype=TIME_DTYPE).alias(FROM)))


def _stored(rows: pl.DataFrame, view: View) -> pl.DataFrame:
    names = {feature_column(name): name for name in view.features}
    renamed = rows.rename({ID_COLUMN: KEY, KNOWN: FROM, **names})
    return _with_moment(renamed.select(KEY, FROM, *view.features))


def _with_moment(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col(FROM).cast(pl.Int64).alias(FROM_US))
