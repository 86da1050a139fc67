"""Users and items: their attributes as the samples table and the bundle hold them, one row an id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from onehull.errors import DataError
from onehull.events.columns import dtypes, feature_values, finite, id_column
from onehull.events.files import find_files, scan_table
from onehull.events.sources import Entity, feature_sources
from onehull.spec import Spec
from onehull.spec.bundle import ID_COLUMN, display_column
from onehull.spec.features import Feature
from onehull.spec.samples import ITEM, USER, feature_column
from onehull.spec.serving import Display

_KEY_OF: Mapping[Entity, str] = {"user": USER, "item": ITEM}


def load_entities(spec: Spec, data_dir: Path, entity: Entity, samples: Path | None = None) -> pl.DataFrame | None:
    """The table of an entity.

    Args:
        spec: the spec.
        data_dir: directory that its paths are relative to.
        entity: ``user`` or ``item``.
        samples: the samples table; its ids stand in where the spec names no attribute table.

    Returns:
        Column ``id``, sorted; ``x.FEATURE`` for the features that come from this entity; for items ``show.FIELD``
        for what the page shows. None where the spec names neither a table nor (with samples) an id column.

    Raises:
        DataError: the table cannot be read, or its key is not unique.
    """
    sources = feature_sources(spec, data_dir)
    features = {name: spec.features[name] for name, source in sources.items() if source == entity}
    id_name: str | None = getattr(spec.data, entity)
    table = getattr(spec.data.tables, entity)
    if table is not None:
        own = {name: feature for name, feature in features.items() if (feature.column or name) != id_name}
        display = spec.serving.display if entity == "item" else Display()
        frame = entity_table(find_files(data_dir, table.path), table.key, own, display)
    elif id_name is not None and samples is not None:
        key = _KEY_OF[entity]
        ids = pl.scan_parquet(samples).select(pl.col(key).alias(ID_COLUMN)).drop_nulls().unique()
        frame = ids.collect(engine="streaming")
    else:
        return None
    ids_as_features = [name for name, feature in features.items() if (feature.column or name) == id_name]
    return frame.with_columns(pl.col(ID_COLUMN).alias(feature_column(name)) for name in ids_as_features).sort(ID_COLUMN)


def entity_table(
    files: list[Path], key: str, features: Mapping[str, Feature], display: Display | None = None
) -> pl.DataFrame:
    """Reads an attribute table.

    Args:
        files: the table's files.
        key: column that holds the id.
        features: features that read a column of it.
        display: columns that the page shows.

    Raises:
        DataError: two rows with the same id differ.
    """
    table = scan_table(files)
    known = dtypes(table)
    columns = [id_column(pl.col(key), known[key]).alias(ID_COLUMN)]
    for name, feature in features.items():
        column = feature.column or name
        columns.append(feature_values(pl.col(column), known[column], feature).alias(feature_column(name)))
    for name, column in display or Display():
        if column is not None:
            columns.append(_shown(name, column, known[column]).alias(display_column(name)))
    try:
        frame = table.select(columns).drop_nulls(ID_COLUMN).collect(engine="streaming").unique(maintain_order=True)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{files[0]} cannot be read as declared: {str(error).splitlines()[0]}") from error
    _check_unique(frame, files[0], key)
    return frame


def attach(rows: pl.LazyFrame, table: pl.DataFrame, key: str) -> pl.LazyFrame:
    """Joins attributes to rows; a row whose id the table lacks gets nulls.

    Args:
        rows: with the id in column `key`.
        table: what `entity_table` returns.
        key: ``user`` or ``item``.
    """
    return rows.join(table.lazy(), left_on=key, right_on=ID_COLUMN, how="left", maintain_order="left")


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
