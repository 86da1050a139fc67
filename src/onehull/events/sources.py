"""Where each column that a spec names comes from: the sample or its context, the user's table, the item's table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl

from onehull.errors import DataError, Fault, SpecError
from onehull.events.columns import dtypes
from onehull.events.files import find_files, scan_table
from onehull.events.lines import UNREADABLE, read_blocks
from onehull.spec import Spec
from onehull.spec.data import Table
from onehull.spec.events import IMPRESSION
from onehull.spec.samples import ITEM, USER

Source = Literal["user", "item", "context"]
Entity = Literal["user", "item"]
ENTITIES: tuple[Entity, Entity] = ("user", "item")
KEY_OF: Mapping[Entity, str] = {"user": USER, "item": ITEM}
"""Column of the samples table that holds an entity's id."""

_PEEKED_IMPRESSIONS = 10_000


class _Peek(msgspec.Struct):
    event: str
    context: dict[str, Any] | None = None


@dataclass(frozen=True)
class Sources:
    """Columns that the data have.

    Attributes:
        context: columns of the sample table and their dtypes; for an event log the fields of ``context`` seen in
            the first impressions, without dtypes.
        user: columns of the user's table.
        item: columns of the item's table.
        ids: the column that holds the user's id, and the item's.
        empty: an event log without one readable impression: its context is not known.
    """

    context: Mapping[str, pl.DataType | None]
    user: Mapping[str, pl.DataType] = field(default_factory=dict)
    item: Mapping[str, pl.DataType] = field(default_factory=dict)
    ids: Mapping[Entity, str | None] = field(default_factory=dict)
    empty: bool = False

    def locate(self, column: str) -> Source | None:
        """Where a column comes from: the sample before the user before the item; None where nothing has it."""
        for entity in ENTITIES:
            if column == self.ids.get(entity):
                return entity
        if column in self.context:
            return "context"
        if column in self.user:
            return "user"
        return "item" if column in self.item else None

    def is_id(self, column: str) -> bool:
        """Whether a column is an entity's id."""
        return column in {name for name in self.ids.values() if name is not None}

    def dtype(self, column: str) -> pl.DataType | None:
        """Dtype of a column where it is known."""
        source = self.locate(column)
        tables: dict[str, Mapping[str, Any]] = {"context": self.context, "user": self.user, "item": self.item}
        return tables[source].get(column, self.context.get(column)) if source is not None else None

    @property
    def known(self) -> list[str]:
        """Every column that a feature can read."""
        ids = [name for name in self.ids.values() if name is not None]
        return list(dict.fromkeys([*ids, *self.context, *self.user, *self.item]))


def find_sources(spec: Spec, data_dir: Path) -> Sources:
    """Looks at the schemas of all tables, and at the first impressions of an event log.

    Raises:
        DataError: a table cannot be read.
    """
    data = spec.data
    if data.events is not None:
        context = _context_fields(find_files(data_dir, data.events.impressions))
    else:
        files = find_files(data_dir, data.samples or "")
        context = dict(dtypes(scan_table(files))) if files else {}
    return Sources(
        context=context or {},
        user=_table_columns(data.tables.user, data_dir),
        item=_table_columns(data.tables.item, data_dir),
        ids={"user": data.user, "item": data.item},
        empty=context is None,
    )


def feature_sources(spec: Spec, data_dir: Path) -> dict[str, Source]:
    """Tells for each feature where its value comes from.

    Args:
        spec: the spec.
        data_dir: directory that its paths are relative to.

    Returns:
        ``user`` and ``item`` for what an entity's table or id gives, ``context`` for what the sample itself holds.
        A column that several have is the sample's before the user's before the item's.

    Raises:
        SpecError: a feature reads a column that nothing has.
        DataError: a table cannot be read.
    """
    sources = find_sources(spec, data_dir)
    located = {name: sources.locate(feature.column or name) for name, feature in spec.features.items()}
    absent = [name for name, source in located.items() if source is None and not sources.empty]
    if absent:
        raise SpecError([Fault(f"features.{name}", "must read a column that the data have", name) for name in absent])
    return {name: source or "context" for name, source in located.items()}


def _table_columns(table: Table | None, data_dir: Path) -> dict[str, pl.DataType]:
    files = find_files(data_dir, table.path) if table is not None else []
    return dict(dtypes(scan_table(files))) if files else {}


def _context_fields(files: list[Path]) -> dict[str, pl.DataType | None] | None:
    """Fields of ``context`` in the first impressions, in order of appearance; None where there is no impression."""
    fields: dict[str, None] = {}
    seen = 0
    for context in islice(_contexts(files), _PEEKED_IMPRESSIONS):
        fields.update(dict.fromkeys(context))
        seen += 1
    return {**fields} if seen else None


def _contexts(files: list[Path]) -> Iterator[dict[str, Any]]:
    """The context of each impression that can be read; the rest is told when the log is read in full."""
    decoder = msgspec.json.Decoder(_Peek)
    for path in files:
        with suppress(DataError):
            for block in read_blocks(path):
                for line in block.lines:
                    with suppress(*UNREADABLE):
                        event = decoder.decode(line)
                        if event.event == IMPRESSION:
                            yield event.context or {}
