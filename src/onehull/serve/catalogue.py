"""Users and items, encoded once at the start; a request only gathers rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onehull.serve.engine import Array, Engine
from onehull.serve.presence import Presence
from onehull.spec.bundle import ID_COLUMN, POPULARITY_COLUMN
from onehull.spec.samples import feature_column

_SHOW = "show."
_MOST_KEPT = 20_000


@dataclass(frozen=True)
class EntityTable:
    """One kind of entity: N rows of encoded inputs, found by id.

    Attributes:
        frame: the bundle's table: ``id``, ``x.FEATURE``, for items ``show.FIELD`` and ``popularity``.
        features: features that this table holds.
        inputs: encoded inputs by name, ``(N, …)`` each.
        presence: which features are missing or unseen, row by row.
    """

    frame: pl.DataFrame
    features: tuple[str, ...]
    inputs: Mapping[str, Array]
    presence: Presence
    row_of: Mapping[str, int] = field(init=False)
    ids: Sequence[str] = field(init=False)
    id_order_N: NDArray[np.int64] = field(init=False)
    """Place of each id in the order of ids: decides between equal scores."""
    _kept: dict[int, EntityRecord] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        ids = self.frame[ID_COLUMN].to_list()
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "row_of", {key: row for row, key in enumerate(ids)})
        places = np.empty(len(ids), dtype=np.int64)
        places[np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)] = np.arange(len(ids))
        object.__setattr__(self, "id_order_N", places)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def popularity(self) -> NDArray[np.float64]:
        """Share of training impressions of each row; zeros where the table does not say."""
        if POPULARITY_COLUMN not in self.frame.columns:
            return np.zeros(len(self))
        return self.frame[POPULARITY_COLUMN].cast(pl.Float64).fill_null(0.0).to_numpy()

    def records(self, rows: Sequence[int]) -> list[EntityRecord]:
        """What a page shows of some rows; what is served often is kept, because a table is slow row by row."""
        kept = {row: record for row in rows if (record := self._kept.get(row)) is not None}
        absent = [row for row in rows if row not in kept]
        if absent:
            wanted = [ID_COLUMN, *self._shown, *(feature_column(name) for name in self.features)]
            found = self.frame[absent].select(wanted).iter_rows(named=True)
            kept |= {row: self._record(values) for row, values in zip(absent, found, strict=True)}
            if len(self._kept) + len(absent) > _MOST_KEPT:
                self._kept.clear()
            self._kept.update((row, kept[row]) for row in absent)
        return [kept[row] for row in rows]

    @property
    def _shown(self) -> list[str]:
        return [column for column in self.frame.columns if column.startswith(_SHOW)]

    def _record(self, row: Mapping[str, Any]) -> EntityRecord:
        attributes = {name: row[feature_column(name)] for name in self.features}
        return EntityRecord(
            id=row[ID_COLUMN],
            show={column.removeprefix(_SHOW): _plain(row[column]) for column in self._shown},
            attributes={name: _plain(value) for name, value in attributes.items() if not _is_vector(value)},
        )


@dataclass(frozen=True)
class EntityRecord:
    """One user or item as people see it."""

    id: str
    show: dict[str, Any]
    attributes: dict[str, Any]


def encode_table(frame: pl.DataFrame, features: Sequence[str], engine: Engine, unseen_in: Sequence[str]) -> EntityTable:
    """Encodes a table.

    Args:
        frame: ``id`` and ``x.FEATURE`` columns, one row an entity.
        features: the features that the table holds.
        engine: makes the scorer's inputs, and ids.
        unseen_in: features with a vocabulary.
    """
    encoded = engine.encoder_of(features).encode_frame(frame)
    ids = encoded if engine.ids_of is engine.encoder_of else engine.ids_of(features).encode_frame(frame)
    raw = {name: frame[feature_column(name)].to_list() for name in features}
    presence = Presence.measure(raw, ids, features, unseen_in, len(frame))
    return EntityTable(frame, tuple(features), encoded, presence)


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], float)


def _plain(value: Any) -> Any:
    """A value that JSON can hold."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value)
