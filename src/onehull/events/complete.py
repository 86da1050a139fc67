"""From joined events to rows of the samples table: their columns, and the attributes of their user and item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from onehull.events.columns import TIME_DTYPE
from onehull.events.divide import POSITION, SPLIT_VALUE
from onehull.events.entities import attach, read_table
from onehull.events.files import find_files
from onehull.events.names import ID, MOMENT, context_column
from onehull.events.sources import ENTITIES, KEY_OF, Source
from onehull.spec import Spec
from onehull.spec.samples import ITEM, REPEATS, SAMPLE, TIME, USER, feature_column, label_column


def event_rows(joined: pl.LazyFrame, spec: Spec, context: Sequence[str], scalars: Sequence[str]) -> pl.LazyFrame:
    """Joined impressions with the names of the samples table.

    Args:
        joined: see `onehull.events.join.join`; with `POSITION` where rows are to be divided.
        spec: the spec.
        context: features that come from the context.
        scalars: the split column, where there is one.
    """
    present = joined.collect_schema()
    return joined.select(
        *(name for name in (POSITION, REPEATS) if name in present),
        pl.col(ID).alias(SAMPLE),
        pl.col(MOMENT).cast(TIME_DTYPE).alias(TIME),
        USER,
        ITEM,
        *(pl.col(context_column(name)).alias(SPLIT_VALUE) for name in scalars),
        *(feature_column(name) for name in context),
        *(label_column(name) for name in spec.tasks),
    )


def sample_columns(spec: Spec) -> list[str]:
    """Columns of the samples table but the split, in their order."""
    features = [feature_column(name) for name in spec.features]
    repeats = [REPEATS] if any(getattr(task, "late", None) for task in spec.tasks.values()) else []
    return [SAMPLE, TIME, USER, ITEM, *features, *(label_column(name) for name in spec.tasks), *repeats]


class Attributes:
    """The attribute tables of users and items, read when they are first needed and when their files change.

    Args:
        spec: the spec.
        data_dir: directory that its paths are relative to.
        sources: where each feature comes from.
    """

    def __init__(self, spec: Spec, data_dir: Path, sources: Mapping[str, Source]) -> None:
        self._spec = spec
        self._data_dir = data_dir
        self._sources = sources
        self._tables: dict[str, tuple[object, pl.DataFrame]] = {}

    def attach(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Adds the features that come from the user and the item; an id that a table lacks gets nulls."""
        for entity in ENTITIES:
            own = {name: self._spec.features[name] for name, source in self._sources.items() if source == entity}
            id_name = getattr(self._spec.data, entity)
            ids = [name for name, feature in own.items() if (feature.column or name) == id_name]
            if getattr(self._spec.data.tables, entity) is not None and len(own) > len(ids):
                rows = attach(rows, self._table(entity, [name for name in own if name not in ids]), KEY_OF[entity])
            rows = rows.with_columns(pl.col(KEY_OF[entity]).alias(feature_column(name)) for name in ids)
        return rows

    def _table(self, entity: str, features: Sequence[str]) -> pl.DataFrame:
        table = getattr(self._spec.data.tables, entity)
        files = find_files(self._data_dir, table.path)
        state = [(file, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
        if entity not in self._tables or self._tables[entity][0] != state:
            read = {name: self._spec.features[name] for name in features}
            self._tables[entity] = (state, read_table(files, table, read, self._spec.data.time_unit))
        return self._tables[entity][1]
