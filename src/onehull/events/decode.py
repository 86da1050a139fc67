"""Lines to columns: every line becomes an impression, a feedback event, or an entry of the quarantine."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any

import msgspec
import numpy as np
import polars as pl

from onehull.events.columnar import ColumnarDecoder, Columns
from onehull.events.columns import feature_dtype, feature_values
from onehull.events.lines import UNREADABLE, Block
from onehull.events.names import FILE, ID, KIND, LINE, MOMENT, REFERENCE, context_column, value_column
from onehull.events.quarantine import Quarantine, Reason
from onehull.events.schema import EventSchema, ValueRule
from onehull.events.times import LAST_SECOND, seconds_since_1970
from onehull.spec.events import IMPRESSION
from onehull.spec.features import Feature, ListFeature
from onehull.spec.samples import ITEM, USER, feature_column, id_text

_INT64 = 2**63
_FEW = 64
"""Fewer lines are decoded one by one."""
_GIVE_UP = 3
"""After so many blocks of which most lines were unlike, the rest of the log is decoded one by one."""


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

    Lines that are alike are decoded as columns (`onehull.events.columnar`), the others one by one, to the same result.

    Attributes:
        schema: what is read of each line.
        quarantine: where rejected lines go.
        counts: totals over all blocks.
    """

    schema: EventSchema
    quarantine: Quarantine
    counts: LineCounts = field(default_factory=LineCounts)

    def __post_init__(self) -> None:
        self._columnar = ColumnarDecoder(self.schema)
        self._one_by_one = 0
        self._unlike = 0

    def columns(self, block: Block) -> Columns | None:
        """The first part of `decode`, which may run in other threads."""
        alike = block.count > _FEW and self._unlike < _GIVE_UP
        return self._columnar.decode(block.text, block.first) if alike else None

    def decode(
        self, block: Block, path: Path, file: int, columns: Columns | None = None
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Impressions and feedback of one block.

        Args:
            block: lines of a file.
            path: the file, for the quarantine.
            file: number of the file, kept with each event.
            columns: of the block, where they are there already.

        Returns:
            Impressions (`ID`, `MOMENT`, user, item, features, place) and feedback (`ID`, `REFERENCE`, `KIND`,
            `MOMENT`, values, place).
        """
        one_by_one = self._one_by_one
        if columns is not None:
            parts = list(self._of_columns(columns, lambda: block.lines, block.first, path))
        else:
            parts = list(self._parts(block.lines, block.first, path))
        slow = self._one_by_one - one_by_one
        self._unlike = self._unlike + 1 if slow * 2 > block.count else 0
        self.counts.lines += block.count
        place = pl.lit(file, dtype=pl.UInt32).alias(FILE)
        impressions, feedback = (pl.concat(frames) for frames in zip(*parts, strict=True))
        return impressions.with_columns(place), feedback.with_columns(place)

    def _parts(self, lines: Sequence[bytes], first: int, path: Path) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Decoded stretches of the lines. Where one line spoils a block, halving it finds that line soon."""
        if len(lines) <= _FEW or self._unlike >= _GIVE_UP:
            yield self._each(lines, np.arange(first, first + len(lines)), path)
            return
        columns = self._columnar.decode(b"\n".join([*lines, b""]), first)
        if columns is None:
            half = len(lines) // 2
            yield from self._parts(lines[:half], first, path)
            yield from self._parts(lines[half:], first + half, path)
            return
        yield from self._of_columns(columns, lambda: lines, first, path)

    def _of_columns(
        self, columns: Columns, lines: Callable[[], Sequence[bytes]], first: int, path: Path
    ) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        self.counts.unused.update(columns.unused)
        self.counts.latest = max(self.counts.latest, columns.latest or 0)
        yield columns.impressions, columns.feedback
        if columns.doubtful:
            doubtful = np.array(columns.doubtful)
            all_lines = lines()
            yield self._each([all_lines[position] for position in columns.doubtful], first + doubtful, path)

    def _each(self, lines: Sequence[bytes], numbers: np.ndarray, path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Decodes lines one by one; `numbers` are theirs in the file."""

        def reject(position: int, reason: Reason, detail: str) -> None:
            self.quarantine.reject(path, int(numbers[position]), reason, detail, lines[position])

        self._one_by_one += len(lines)
        events, positions = self._parse(lines, reject)
        moments = _microseconds([event.time for event in events])
        impressions, feedback = self._sort(events, positions, moments, reject)
        return (
            self._impressions([events[i] for i in impressions], moments[impressions], numbers[positions[impressions]]),
            self._feedback([events[i] for i in feedback], moments[feedback], numbers[positions[feedback]]),
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
            except UNREADABLE as error:
                if line.strip():
                    reject(position, "malformed", str(error))
                else:
                    self.counts.blank += 1
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

    def _impressions(self, events: list[Any], moments: np.ndarray, numbers: np.ndarray) -> pl.DataFrame:
        schema = self.schema
        contexts = [event.context for event in events]
        fields = {
            name: [None if context is None else getattr(context, attribute) for context in contexts]
            for name, attribute in schema.context_attributes.items()
        }
        return pl.DataFrame(
            [
                *_place(moments, numbers),
                _ids(ID, [event.id for event in events]),
                _ids(USER, [event.user for event in events]),
                _ids(ITEM, [event.item for event in events]),
                *(_ids(context_column(name), fields[name]) for name in schema.scalars),
                *(_feature(name, fields[schema.columns[name]], kind) for name, kind in schema.context.items()),
            ]
        )

    def _feedback(self, events: list[Any], moments: np.ndarray, numbers: np.ndarray) -> pl.DataFrame:
        columns = [
            *_place(moments, numbers),
            _ids(ID, [event.id for event in events]),
            _ids(REFERENCE, [event.impression for event in events]),
            pl.Series(KIND, [event.event for event in events], dtype=pl.String),
        ]
        for name, attribute in self.schema.value_attributes.items():
            values = [_number(getattr(event, attribute)) for event in events]
            columns.append(pl.Series(value_column(name), values, dtype=pl.Float64))
        return pl.DataFrame(columns)


def _place(moments: np.ndarray, lines: np.ndarray) -> list[pl.Series]:
    return [
        pl.Series(MOMENT, moments.astype(np.int64), dtype=pl.Int64),
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
