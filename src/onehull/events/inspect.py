"""Does the data directory have what the spec names? Every fault at once, before anything is read in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from onehull.errors import Fault, suggest
from onehull.events.columns import dtypes, feature_rule, is_number, time_rule
from onehull.events.files import find_files, scan_table
from onehull.events.sources import Sources, find_sources
from onehull.events.table import sample_files
from onehull.spec import Spec
from onehull.spec.data import ColumnSplit, Data, FileSplit
from onehull.spec.features import CategoricalFeature


def data_faults(spec: Spec, data_dir: Path) -> list[Fault]:
    """Checks that every file and every column that a spec names is there, and is usable for what reads it.

    Args:
        spec: the spec.
        data_dir: directory that its paths are relative to.

    Returns:
        One fault for each broken rule, places being dotted paths of the spec.

    Raises:
        DataError: a table is there and cannot be read.
    """
    faults = [*_file_faults(spec.data, data_dir)]
    if faults:
        return faults  # columns of absent files would only repeat it
    sources = find_sources(spec, data_dir)
    tables = _other_tables(spec.data, data_dir)
    return [
        *_table_faults(spec.data, sources),
        *_key_faults(spec.data, sources),
        *_split_faults(spec.data, sources),
        *_label_faults(spec, sources),
        *_feature_faults(spec, sources),
        *_display_faults(spec, sources),
        *_part_faults(spec, sources, tables),
    ]


def _file_faults(data: Data, data_dir: Path) -> Iterator[Fault]:
    for place, pattern in _patterns(data).items():
        if not find_files(data_dir, pattern):
            siblings = sorted(path.name for path in data_dir.glob("*") if path.is_file()) if data_dir.is_dir() else []
            yield Fault(place, f"must name a file in {data_dir}", pattern, suggest(pattern, siblings))


def _patterns(data: Data) -> dict[str, str]:
    patterns: dict[str, str | None] = {"data.samples": data.samples, "data.holdout": data.holdout}
    if data.events is not None:
        patterns |= {"data.events.impressions": data.events.impressions, "data.events.feedback": data.events.feedback}
    if isinstance(data.split, FileSplit):
        patterns |= {"data.split.validation": data.split.validation, "data.split.test": data.split.test}
    for entity in ("user", "item"):
        table = getattr(data.tables, entity)
        patterns[f"data.tables.{entity}.path"] = table.path if table is not None else None
    return {place: pattern for place, pattern in patterns.items() if pattern is not None}


def _other_tables(data: Data, data_dir: Path) -> dict[str, Mapping[str, pl.DataType]]:
    """Columns of the sample files besides `data.samples`, by the place that names them."""
    places = {"holdout": "data.holdout", "validation": "data.split.validation", "test": "data.split.test"}
    return {
        places[role]: dtypes(scan_table(find_files(data_dir, pattern)))
        for role, pattern in sample_files(data).items()
        if role != "samples"
    }


def _table_faults(data: Data, sources: Sources) -> Iterator[Fault]:
    for entity, columns in (("user", sources.user), ("item", sources.item)):
        table = getattr(data.tables, entity)
        if table is None:
            continue
        place = f"data.tables.{entity}"
        for field in ("key", "time", "created"):
            column = getattr(table, field)
            if column is not None and column not in columns:
                rule = f"must name a column of {table.path}"
                yield Fault(f"{place}.{field}", rule, column, suggest(column, list(columns)))
            elif column is not None and field != "key" and (rule_broken := time_rule(columns[column], data.time_unit)):
                yield Fault(f"{place}.{field}", f"names column {column!r}, which {rule_broken}", str(columns[column]))
        if table.time is not None and data.time is None:
            remedy = "Name the column that holds the time of the impression."
            yield Fault("data.time", f"is required by {place}.time: what was known depends on it", None, remedy)


def _key_faults(data: Data, sources: Sources) -> Iterator[Fault]:
    if data.events is not None:
        return  # the schema of events has its own key fields
    for key in ("user", "item", "time"):
        column = getattr(data, key)
        if column is not None and column not in sources.context:
            rule = f"must name a column of {data.samples}"
            yield Fault(f"data.{key}", rule, column, suggest(column, list(sources.context)))
    dtype = sources.context.get(data.time or "")
    if dtype is not None and (rule_broken := time_rule(dtype, data.time_unit)):
        yield Fault("data.time", f"names column {data.time!r}, which {rule_broken}", str(dtype))


def _split_faults(data: Data, sources: Sources) -> Iterator[Fault]:
    split = data.split
    if isinstance(split, ColumnSplit) and split.column not in sources.context and not sources.empty:
        where = data.samples or "the impressions' context"
        rule = f"must name a column of {where}"
        yield Fault("data.split.column", rule, split.column, suggest(split.column, list(sources.context)))


def _label_faults(spec: Spec, sources: Sources) -> Iterator[Fault]:
    if spec.data.events is not None:
        return
    for name, task in spec.tasks.items():
        place, dtype = f"tasks.{name}.label", sources.context.get(task.label or "")
        if dtype is None:
            rule = f"must name a column of {spec.data.samples}"
            yield Fault(place, rule, task.label, suggest(task.label, list(sources.context)))
        elif not is_number(dtype):
            yield Fault(place, f"names column {task.label!r}, which must hold numbers or booleans", str(dtype))


def _feature_faults(spec: Spec, sources: Sources) -> Iterator[Fault]:
    for name, feature in spec.features.items():
        column = feature.column or name
        place = f"features.{name}" + (".column" if feature.column else "")
        if sources.locate(column) is None:
            if not sources.empty:
                yield Fault(place, "must read a column that the data have", column, suggest(column, sources.known))
        elif sources.is_id(column):
            if not isinstance(feature, CategoricalFeature):
                yield Fault(place, "reads an id, which must be a categorical feature", feature.kind)
        elif (dtype := sources.dtype(column)) is not None and (rule := feature_rule(feature, dtype)):
            yield Fault(place, f"reads column {column!r}, which {rule}", str(dtype))


def _display_faults(spec: Spec, sources: Sources) -> Iterator[Fault]:
    for name, column in spec.serving.display:
        if column is not None and column not in sources.item:
            rule = "must name a column of the item table"
            yield Fault(f"serving.display.{name}", rule, column, suggest(column, list(sources.item)))
    length = spec.serving.display.duration_s
    if length is not None and length in sources.item and not is_number(sources.item[length]):
        rule = f"names column {length!r}, which must hold numbers"
        yield Fault("serving.display.duration_s", rule, str(sources.item[length]))


def _part_faults(spec: Spec, sources: Sources, tables: Mapping[str, Mapping[str, pl.DataType]]) -> Iterator[Fault]:
    """Every sample file must have the columns that are read of the first one."""
    data = spec.data
    needed = [task.label for task in spec.tasks.values()] + [data.user, data.item, data.time]
    columns = [feature.column or name for name, feature in spec.features.items()]
    needed += [column for column in columns if sources.locate(column) == "context"]
    for place, known in tables.items():
        for column in dict.fromkeys(column for column in needed if column is not None):
            if column not in known and column in sources.context:
                yield Fault(place, f"must have the column {column!r}", column, suggest(column, list(known)))
