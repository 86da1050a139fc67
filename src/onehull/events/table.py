"""Ready-made tables: one row a sample, labels in columns; read lazily, never held in memory as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from onehull.events.columns import TIME_DTYPE, dtypes, feature_values, id_column, label_values, moments
from onehull.events.divide import POSITION, SPLIT_VALUE, divide
from onehull.events.files import find_files, scan_table
from onehull.events.labels import finish_labels
from onehull.events.sources import Source
from onehull.events.split import one_part
from onehull.spec import Spec
from onehull.spec.data import ColumnSplit, Data, FileSplit
from onehull.spec.samples import ITEM, SAMPLE, SPLIT, TIME, USER, SplitName, feature_column, label_column

_NUMBER = "row number"


@dataclass(frozen=True)
class Rows:
    """Samples before entity attributes are joined.

    Attributes:
        frame: ``sample``, ``split``, ``time``, ``user``, ``item``, context features and labels.
        read: rows of the input.
        duplicates: rows dropped because they equal another one.
    """

    frame: pl.LazyFrame
    read: int
    duplicates: int


def table_rows(spec: Spec, data_dir: Path, sources: Mapping[str, Source]) -> Rows:
    """Samples of the ready-made tables that a spec names.

    Rows are numbered from 0 through all files in the order of `sample_files`, duplicates included; the number is
    the sample's id, and rows keep this order.

    Args:
        spec: the spec.
        data_dir: directory that its paths are relative to.
        sources: see `feature_sources`.
    """
    frames, read, duplicates = [], 0, 0
    for role, pattern in sample_files(spec.data).items():
        raw = scan_table(find_files(data_dir, pattern))
        count = _length(raw)
        numbered = raw.with_row_index(_NUMBER, offset=read)
        read += count
        if spec.data.drop_duplicates:
            numbered = numbered.unique(list(dtypes(raw)), keep="first", maintain_order=True)
            duplicates += count - _length(numbered)
        rows = numbered.with_row_index(POSITION).select(_columns(spec, dtypes(raw), sources))
        frames.append(_with_part(rows, spec.data, role))
    return Rows(finish_labels(pl.concat(frames), spec.tasks), read, duplicates)


def sample_files(data: Data) -> dict[str, str]:
    """The files that hold samples by their role, in the order in which their rows are numbered."""
    files = {"samples": data.samples, "holdout": data.holdout}
    if isinstance(data.split, FileSplit):
        files |= {"validation": data.split.validation, "test": data.split.test}
    return {role: pattern for role, pattern in files.items() if pattern is not None}


def _with_part(rows: pl.LazyFrame, data: Data, role: str) -> pl.LazyFrame:
    own: dict[str, SplitName] = {"validation": "validation", "test": "test"}
    if data.holdout is not None or isinstance(data.split, FileSplit):
        own["samples"] = "train"
    if role in own:
        divided = rows.with_columns(one_part(own[role]).alias(SPLIT))
    else:
        divided = divide(rows, data.split, rest="train" if role == "samples" else None)
    return divided.drop(POSITION, SPLIT_VALUE)


def _columns(spec: Spec, known: Mapping[str, pl.DataType], sources: Mapping[str, Source]) -> list[pl.Expr]:
    data = spec.data
    split_column = data.split.column if isinstance(data.split, ColumnSplit) else None
    columns = [
        pl.col(POSITION),
        pl.col(_NUMBER).cast(pl.String).alias(SAMPLE),
        _time(data, known).alias(TIME),
        _id(data.user, known).alias(USER),
        _id(data.item, known).alias(ITEM),
        _id(split_column, known).alias(SPLIT_VALUE),
    ]
    for name, feature in spec.features.items():
        if sources[name] == "context":
            column = feature.column or name
            columns.append(feature_values(pl.col(column), known[column], feature).alias(feature_column(name)))
    for name, task in spec.tasks.items():
        label = task.label or name
        columns.append(label_values(pl.col(label), known[label]).alias(label_column(name)))
    return columns


def _time(data: Data, known: Mapping[str, pl.DataType]) -> pl.Expr:
    if data.time is None:
        return pl.lit(None, dtype=TIME_DTYPE)
    return moments(pl.col(data.time), known[data.time], data.time_unit)


def _id(column: str | None, known: Mapping[str, pl.DataType]) -> pl.Expr:
    return pl.lit(None, dtype=pl.String) if column is None else id_column(pl.col(column), known[column])


def _length(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect(engine="streaming").item())
