"""Lines to columns: every line becomes an impression, a feedback event, or an entry of the quarantine."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any

import msgspec
import numpy as np
import polars as pl

from onehull.events.columns import feature_dtype, feature_values
from onehull.events.lines import Block
from onehull.events.quarantine import Quarantine, Reason
from onehull.events.schema import EventSchema, ValueRule
from onehull.events.times import LAST_SECOND, seconds_since_1970
from onehull.spec.events import IMPRESSION
from onehull.spec.features import Feature, ListFeature
from onehull.spec.samples import ITEM, USER, feature_column, id_text

FILE, LINE, ID, MOMENT = "file", "line", "id", "moment"
"""Columns of decoded events: number of the file, number of the line, the event's id, microseconds since 1970."""
KIND, REFERENCE = "kind", "impression"
"""Columns of decoded feedback: kind of the event, id of its impression."""

_INT64 = 2**63


def value_column(name: str) -> str:
    """Column of decoded feedback that holds a value field."""
    return f"v.{name}"


def context_column(name: str) -> str:
    """Column of decoded impressions that holds a context field as id text."""
    return f"c.{name}"


@dataclass
class LineCounts:
    """What was seen of the log so far; everything else is counted where it is decided."""

    lines: int = 0
    blank: int = 0
    unused: Counter[str] = field(default_factory=Counter)
    latest: float = 0.0
    """Latest time of any event, microseconds since 1970."""


@dataclass
class BlockDecoder:
    """Decodes blocks of one log; see `decode`.

    Attributes:
        schema: what is read of each line.
        quarantine: where rejected lines go.
        counts: totals over all blocks.
    """

    schema: EventSchema
    quarantine: Quarantine
    counts: LineCounts = field(default_factory=LineCounts)

    def decode(self, block: Block, path: Path, file: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Impressions and feedback of one block.

        Args:
            block: lines of a file.
            path: the file, for the quarantine.
            file: number of the file, kept with each event.

        Returns:
            Impressions (`ID`, `MOMENT`, user, item, features, place) and feedback (`ID`, `REFERENCE`, `KIND`,
            `MOMENT`, values, place).
        """

        def reject(position: int, reason: Reason, detail: str) -> None:
            self.quarantine.reject(path, block.first + position, reason, detail, block.lines[position])

        events, positions = self._parse(block.lines, reject)
        moments = _microseconds([event.time for event in events])
        impressions, feedback = self._sort(events, positions, moments, reject)
        place = {"first": block.first, "file": file}
        return (
            self._impressions([events[i] for i in impressions], moments[impressions], positions[impressions], **place),
            self._feedback([events[i] for i in feedback], moments[feedback], positions[feedback], **place),
        )

    def _parse(
        self, lines: Sequence[bytes], reject: Callable[[int, Reason, str], None]
    ) -> tuple[list[Any], np.ndarray]:
        """Structs of the lines that are valid JSON of the schema's types, and their positions in the block."""
        decode, events, positions = self.schema.decoder.decode, [], []
        for position, line in enumerate(lines):
            try:
                events.append(decode(line))
                positions.append(position)
            except msgspec.ValidationError as error:
                reject(position, "wrong_type", str(error))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if line.strip():
                    reject(position, "malformed", str(error))
                else:
                    self.counts.blank += 1
        self.counts.lines += len(lines)
        return events, np.array(positions, dtype=np.int64)

    def _sort(
        self,
        events: Sequence[Any],
        positions: np.ndarray,
        moments: np.ndarray,
        reject: Callable[[int, Reason, str], None],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the usable impressions and of the usable feedback."""
        impressions, feedback, rules = [], [], self.schema.values
        in_range = (moments >= 0) & (moments < LAST_SECOND * 1e6)
        for index, (event, usable) in enumerate(zip(events, in_range.tolist(), strict=True)):
            kind = event.event
            if not usable:
                reject(int(positions[index]), "time_out_of_range", f"time {event.time} is not between 1970 and 9999")
            elif kind == IMPRESSION:
                if event.id is None or event.id == "":
                    reject(int(positions[index]), "no_id", "an impression must have an id")
                else:
                    impressions.append(index)
            elif kind not in rules:
                self.counts.unused[kind] += 1
            elif event.impression is None or event.impression == "":
                reject(int(positions[index]), "no_id", "feedback must name its impression")
            elif fault := self._value_fault(event, rules[kind]):
                reject(int(positions[index]), "bad_value", fault)
            else:
                feedback.append(index)
        if in_range.any():
            self.counts.latest = max(self.counts.latest, float(moments[in_range].max()))
        return np.array(impressions, dtype=np.int64), np.array(feedback, dtype=np.int64)

    def _value_fault(self, event: Any, rules: Iterable[ValueRule]) -> str | None:
        """The rule that a value breaks. An event must hold every value that a task reads from its kind."""
        for rule in rules:
            value = getattr(event, self.schema.value_attributes[rule.field])
            if type(value) is not float and type(value) is not int:
                return f"{rule.field} must be a number. Received {value!r:.80}"
            if abs(value) > sys.float_info.max:
                return f"{rule.field} must be finite"
            if rule.classes is not None and not (value == int(value) and 0 <= value < rule.classes):
                return f"{rule.field} must be a class from 0 to {rule.classes - 1}. Received {value!r}"
        return None

    def _impressions(
        self, events: list[Any], moments: np.ndarray, positions: np.ndarray, *, first: int, file: int
    ) -> pl.DataFrame:
        schema = self.schema
        contexts = [event.context for event in events]
        fields = {
            name: [None if context is None else getattr(context, attribute) for context in contexts]
            for name, attribute in schema.context_attributes.items()
        }
        return pl.DataFrame(
            [
                *_place(moments, positions + first, file),
                _ids(ID, [event.id for event in events]),
                _ids(USER, [event.user for event in events]),
                _ids(ITEM, [event.item for event in events]),
                *(_ids(context_column(name), fields[name]) for name in schema.scalars),
                *(_feature(name, fields[schema.columns[name]], kind) for name, kind in schema.context.items()),
            ]
        )

    def _feedback(
        self, events: list[Any], moments: np.ndarray, positions: np.ndarray, *, first: int, file: int
    ) -> pl.DataFrame:
        columns = [
            *_place(moments, positions + first, file),
            _ids(ID, [event.id for event in events]),
            _ids(REFERENCE, [event.impression for event in events]),
            pl.Series(KIND, [event.event for event in events], dtype=pl.String),
        ]
        for name, attribute in self.schema.value_attributes.items():
            numbers = [_number(getattr(event, attribute)) for event in events]
            columns.append(pl.Series(value_column(name), numbers, dtype=pl.Float64))
        return pl.DataFrame(columns)


def _place(moments: np.ndarray, lines: np.ndarray, file: int) -> list[pl.Series]:
    return [
        pl.Series(MOMENT, moments.astype(np.int64), dtype=pl.Int64),
        pl.Series(FILE, np.full(len(lines), file, dtype=np.uint32)),
        pl.Series(LINE, lines.astype(np.int64), dtype=pl.Int64),
    ]


def _microseconds(times: list[Any]) -> np.ndarray:
    """Times as microseconds since 1970; without an offset they are UTC."""
    if set(map(type, times)) == {datetime} and None not in {time.tzinfo for time in times}:
        seconds = [time.timestamp() for time in times]
    else:
        seconds = [seconds_since_1970(time) for time in times]
    return np.rint(np.array(seconds, dtype=np.float64) * 1e6)


def _number(value: Any) -> float | None:
    """A value as a float; None where it is none (an event of a kind that this field does not belong to)."""
    usable = type(value) is float or (type(value) is int and abs(value) <= sys.float_info.max)
    return float(value) if usable else None


def _ids(name: str, values: list[Any]) -> pl.Series:
    """Values as id text."""
    types = set(map(type, values)) - {NoneType}
    if types <= {str}:
        return pl.Series(name, values, dtype=pl.String).replace("", None)
    if types == {int} and all(value is None or abs(value) < _INT64 for value in values):
        return pl.Series(name, values, dtype=pl.Int64).cast(pl.String)
    return pl.Series(name, [id_text(value) for value in values], dtype=pl.String)


def _feature(name: str, values: list[Any], feature: Feature) -> pl.Series:
    """One feature of a block, in the dtype of the samples table."""
    column, dtype = feature_column(name), feature_dtype(feature)
    if dtype == pl.String:
        return _ids(column, values)
    if isinstance(feature, ListFeature):
        if feature.separator is not None:
            frame = pl.DataFrame([_ids(column, values)])
            return frame.select(feature_values(pl.col(column), pl.String(), feature)).to_series()
        lists = [None if value is None else _texts(value) for value in values]
        return pl.Series(column, lists, dtype=dtype)
    raw = pl.DataFrame([pl.Series(column, values, dtype=dtype, strict=False)])
    return raw.select(feature_values(pl.col(column), dtype, feature)).to_series()


def _texts(values: list[Any]) -> list[str]:
    return [text for value in values if (text := id_text(value)) is not None]
