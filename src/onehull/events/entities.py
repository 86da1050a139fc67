"""Users and items: their attributes as the samples table and the bundle hold them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from onehull.errors import DataError
from onehull.events.columns import TimeUnit, dtypes, feature_values, finite, id_column, moments
from onehull.events.files import find_files, scan_table
from onehull.events.history import KNOWN, TRUE_FROM, WRITTEN, attach_known, history, latest
from onehull.events.sources import KEY_OF, Entity, feature_sources
from onehull.spec import Spec
from onehull.spec.bundle import ID_COLUMN, display_column
from onehull.spec.data import Table
from onehull.spec.features import Feature
from onehull.spec.samples import feature_column
from onehull.spec.serving import Display


def load_entities(
    spec: Spec, data_dir: Path, entity: Entity, samples: Path | None = None, now: datetime | None = None
) -> pl.DataFrame | None:
    """The table of an entity, one row an id.

    Args:
        spec: the spec.
        data_dir: directory that its paths are relative to.
        entity: ``user`` or ``item``.
        samples: the samples table; its ids stand in where the spec names no attribute table.
        now: of a table with a history, the row that counts at this moment. Default: when it is called.

    Returns:
        Column ``id``, sorted; ``x.FEATURE`` for the features that come from this entity; for items ``show.FIELD``
        for what the page shows. None where the spec names neither a table nor (with samples) an id column.

    Raises:
        DataError: the table cannot be read, or its key (with a history: key and moments) is not unique.
    """
    sources = feature_sources(spec, data_dir)
    features = {name: spec.features[name] for name, source in sources.items() if source == entity}
    id_name: str | None = getattr(spec.data, entity)
    table: Table | None = getattr(spec.data.tables, entity)
    if table is not None:
        own = {name: feature for name, feature in features.items() if (feature.column or name) != id_name}
        display = spec.serving.display if entity == "item" else Display()
        frame = read_table(find_files(data_dir, table.path), table, own, spec.data.time_unit, display)
        if KNOWN in frame.columns:
            frame = latest(frame, now or datetime.now(UTC)).drop(KNOWN)
    elif id_name is not None and samples is not None:
        key = KEY_OF[entity]
        ids = pl.scan_parquet(samples).select(pl.col(key).alias(ID_COLUMN)).drop_nulls().unique()
        frame = ids.collect(engine="streaming")
    else:
        return None
    ids_as_features = [name for name, feature in features.items() if (feature.column or name) == id_name]
    return frame.with_columns(pl.col(ID_COLUMN).alias(feature_column(name)) for name in ids_as_features).sort(ID_COLUMN)


def read_table(
    files: list[Path],
    table: Table,
    features: Mapping[str, Feature],
    time_unit: TimeUnit = "s",
    display: Display | None = None,
) -> pl.DataFrame:
    """Reads an attribute table.

    Args:
        files: the table's files.
        table: what the spec says of it.
        features: features that read a column of it.
        time_unit: unit of its moments where they are numbers or text.
        display: columns that the page shows.

    Returns:
        ``id``, ``x.FEATURE`` and ``show.FIELD``, each id once; where the table has a history, what
        `onehull.events.history.history` returns.

    Raises:
        DataError: two rows with the same id (with a history: the same id and moments) differ, a moment is missing, or
            the files cannot be read.
    """
    scan = scan_table(files)
    known = dtypes(scan)
    columns = _value_columns(table.key, features, display or Display(), known)
    if table.time is not None:
        written = table.created or table.time
        for column, name in ((table.time, TRUE_FROM), (written, WRITTEN)):
            columns.append(moments(pl.col(column), known[column], time_unit).alias(name))
    try:
        frame = scan.select(columns).drop_nulls(ID_COLUMN).collect(engine="streaming").unique(maintain_order=True)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{files[0]} cannot be read as declared: {str(error).splitlines()[0]}") from error
    if table.time is None:
        _check_unique(frame, files[0], table.key)
        return frame
    _check_history(frame, files[0], table)
    return history(frame)


def attach(rows: pl.LazyFrame, table: pl.DataFrame, key: str) -> pl.LazyFrame:
    """Joins attributes to rows, one row each; a row whose id the table lacks gets nulls.

    Args:
        rows: with the id in column `key`; for a table with a history also with ``time``.
        table: what `read_table` returns; with a history each row gets what was known at its time.
        key: ``user`` or ``item``.
    """
    if KNOWN in table.columns:
        return attach_known(rows, table, key)
    return rows.join(table.lazy(), left_on=key, right_on=ID_COLUMN, how="left", maintain_order="left")


def _value_columns(
    key: str, features: Mapping[str, Feature], display: Display, known: Mapping[str, pl.DataType]
) -> list[pl.Expr]:
    columns = [id_column(pl.col(key), known[key]).alias(ID_COLUMN)]
    for name, feature in features.items():
        column = feature.column or name
        columns.append(feature_values(pl.col(column), known[column], feature).alias(feature_column(name)))
    for name, column in display:
        if column is not None:
            columns.append(_shown(name, column, known[column]).alias(display_column(name)))
    return columns


def _shown(name: str, column: str, dtype: pl.DataType) -> pl.Expr:
    if name == "duration_s":
        return finite(pl.col(column), dtype)
    if isinstance(dtype, (pl.List, pl.Array)):
        values = pl.col(column).arr.to_list() if isinstance(dtype, pl.Array) else pl.col(column)
        return values.cast(pl.List(pl.String)).list.join(", ")
    return pl.col(column).cast(pl.String)


def _check_unique(frame: pl.DataFrame, path: Path, key: str) -> None:
    repeated = frame.filter(frame[ID_COLUMN].is_duplicated())
    if len(repeated):
        example = repeated[ID_COLUMN][0]
        count = repeated[ID_COLUMN].n_unique()
        rule = f"must hold each id once; {count} ids have rows that differ, for example {example!r}"
        raise DataError(f"{path}: column {key!r} {rule}. Keep one row an id.")


def _check_history(frame: pl.DataFrame, path: Path, table: Table) -> None:
    for column, name in ((table.time, TRUE_FROM), (table.created, WRITTEN)):
        without = frame[name].null_count()
        if column is not None and without:
            rule = f"must hold a moment in every row; {without} rows have none, or none that can be read"
            raise DataError(f"{path}: column {column!r} {rule}. Fill it in, or leave these rows out.")
    repeated = frame.filter(frame.select(ID_COLUMN, TRUE_FROM, WRITTEN).is_duplicated())
    if len(repeated):
        named = ", ".join(repr(column) for column in (table.key, table.time, table.created) if column is not None)
        rule = f"must differ between rows whose values differ; {len(repeated)} rows do not"
        example = f"for example those of {repeated[ID_COLUMN][0]!r}"
        remedy = "Name the column that says when a row was written (created)." if table.created is None else ""
        raise DataError(f"{path}: columns {named} {rule}, {example}. Keep one of them. {remedy}".rstrip())
