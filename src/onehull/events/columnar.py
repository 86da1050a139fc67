"""Lines to columns at once, where all lines of a block are alike; what is not alike is left to be decoded line by line.

Apache Arrow's reader parses a block of lines straight into columns, ten times as fast as a loop over decoded lines. It
is used only where its result is the same by construction: every field has the type that is asked of it (Arrow does not
convert, it refuses), every line is one object, and every rule holds that a line could be rejected for. Lines for which
this is not certain are named in `Columns.doubtful`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.json

from onehull.events.columns import feature_values, id_column
from onehull.events.lines import UNREADABLE
from onehull.events.names import (
    ID,
    KIND,
    LINE,
    MOMENT,
    REFERENCE,
    context_column,
    value_column,
)
from onehull.events.schema import EventSchema
from onehull.spec.events import IMPRESSION
from onehull.spec.features import ListFeature, NumericFeature, VectorFeature
from onehull.spec.samples import ITEM, USER, feature_column

_PEEKED = 64
_CHUNK_BYTES = 1 << 20
_NOT_A_NUMBER = re.compile(rb"[:\[,]\s*-?(NaN|Inf)")
_MOMENT = r"^(19[7-9]\d|20\d\d)-\d\d-\d\dT\d\d:\d\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$"
_LENGTHS = (20, 22, 23, 24, 25, 26, 27)
"""Of ``2026-01-01T00:00:00Z``, and of the same with one to six digits of a fraction."""
_YEAR_2100 = 4_102_444_800_000_000
"""Microseconds since 1970."""
_LAST_EXACT = 4_000_000_000.0  # seconds; beyond, the doubtful lines are few and a float is no longer exact
_OWN = frozenset({"event", "time", "context", "id", "impression", "user", "item"})
_IDS = {"id": ID, "impression": REFERENCE, "user": USER, "item": ITEM}


@dataclass(frozen=True)
class Columns:
    """Decoded lines of a block.

    Attributes:
        impressions: see `onehull.events.decode.BlockDecoder.decode`, without the place of the file.
        feedback: the same.
        unused: number of events of each kind that nothing reads.
        latest: latest moment of the events that are not doubtful, microseconds since 1970; None without one.
        doubtful: positions of the lines that must be decoded one by one, ascending.
    """

    impressions: pl.DataFrame
    feedback: pl.DataFrame
    unused: Mapping[str, int]
    latest: int | None
    doubtful: Sequence[int]


class ColumnarDecoder:
    """Decodes blocks of lines that are alike.

    Args:
        schema: what is read of each line.
    """

    def __init__(self, schema: EventSchema) -> None:
        self._schema = schema
        self._fields = sorted({*schema.columns.values(), *schema.scalars})
        self._values = sorted(schema.value_attributes)

    def decode(self, text: bytes, first: int) -> Columns | None:
        """Columns of the lines.

        Args:
            text: whole lines; the last one may lack its end.
            first: number of the first one.

        Returns:
            None where the lines are not alike, or not one object each.
        """
        lines, text = _one_object_a_line(text)
        wanted = self._arrow_schema(text.split(b"\n", _PEEKED)[: min(lines, _PEEKED)]) if lines else None
        if wanted is None:
            return None
        try:
            table = pyarrow.json.read_json(
                pa.BufferReader(text),
                pyarrow.json.ReadOptions(block_size=_CHUNK_BYTES),
                pyarrow.json.ParseOptions(explicit_schema=wanted, unexpected_field_behavior="ignore"),
            )
        except pa.ArrowException:
            return None
        if table.num_rows != lines:
            return None
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)  # noqa: S101  a table gives a frame
        return self._sort(self._with_moments(frame.with_row_index("position"), table["time"]), first)

    def _with_moments(self, frame: pl.DataFrame, times: pa.ChunkedArray) -> pl.DataFrame:
        """Adds `MOMENT`, null where it is doubtful, and names values and fields of the context."""
        time = pl.col("time")
        if (usual := _usual_moments(times)) is not None:
            moment = usual
        elif frame.schema["time"] == pl.String:
            moment = _moments(frame.select(pl.when(time.str.contains(_MOMENT)).then(time).alias(MOMENT))[MOMENT])
        else:
            seconds = pl.when((time >= 0) & (time < _LAST_EXACT)).then((time * 1e6).round()).cast(pl.Int64)
            moment = frame.select(seconds.alias(MOMENT))[MOMENT]
        frame = frame.with_columns(moment).rename({name: value_column(name) for name in self._values})
        if "context" not in frame.columns:
            return frame
        return frame.drop("context").hstack(frame["context"].struct.unnest().rename(_field))

    def _sort(self, frame: pl.DataFrame, first: int) -> Columns:
        """Divides the lines among impressions, feedback, unused kinds and doubtful ones."""
        shown, known_kinds = pl.col("event") == IMPRESSION, list(self._schema.values)
        used = pl.col("event").is_in(known_kinds)
        doubtful = pl.any_horizontal(
            pl.col(MOMENT).is_null(),
            pl.col("event").is_null(),
            shown & (pl.col("id").cast(pl.String).fill_null("") == ""),
            shown & self._odd_vectors(),
            used & (pl.col("impression").cast(pl.String).fill_null("") == ""),
            *self._odd_values(),
        )
        part = pl.when(doubtful).then(pl.lit(0)).when(shown).then(pl.lit(1)).when(used).then(pl.lit(2)).otherwise(3)
        sorted_out = frame.lazy().with_columns(
            part.alias("part"), (pl.col("position").cast(pl.Int64) + first).alias(LINE)
        )
        sorted_out = sorted_out.collect().lazy()
        queries = [
            sorted_out.filter(pl.col("part") == 1).select(self._impressions(frame.schema)),
            sorted_out.filter(pl.col("part") == 2).select(self._feedback(frame.schema)),
            sorted_out.filter(pl.col("part") == 3).group_by("event").len(),
            sorted_out.filter(pl.col("part") == 0).select("position"),
            sorted_out.select(pl.col(MOMENT).filter(pl.col("part") != 0).max()),
        ]
        impressions, feedback, unused, odd, latest = pl.collect_all(queries)
        return Columns(
            impressions=impressions,
            feedback=feedback,
            unused=dict(unused.iter_rows()),
            latest=latest.item(),
            doubtful=odd["position"].to_list(),
        )

    def _odd_values(self) -> Iterable[pl.Expr]:
        """Where an event's value breaks a rule of its tasks."""
        for kind, rules in self._schema.values.items():
            for rule in rules:
                value = pl.col(value_column(rule.field))
                usable = value.is_finite()
                if rule.classes is not None:
                    usable &= (value == value.floor()) & (value >= 0) & (value < rule.classes)
                yield (pl.col("event") == kind) & ~usable.fill_null(value=False)

    def _odd_vectors(self) -> pl.Expr:
        """Where a vector has another size, or lacks an element."""
        odd = [
            (pl.col(_field(self._schema.columns[name])).list.len() != feature.size)
            | pl.col(_field(self._schema.columns[name])).list.eval(pl.element().is_null()).list.any()
            for name, feature in self._schema.context.items()
            if isinstance(feature, VectorFeature)
        ]
        return (
            pl.any_horizontal(*(expression.fill_null(value=False) for expression in odd))
            if odd
            else pl.lit(value=False)
        )

    def _impressions(self, known: Mapping[str, pl.DataType]) -> list[pl.Expr]:
        columns = [pl.col(MOMENT), pl.col(LINE)]
        columns += [id_column(pl.col(name), known[name]).alias(_IDS[name]) for name in ("id", "user", "item")]
        for name in self._schema.scalars:
            columns.append(id_column(pl.col(_field(name)), known[_field(name)]).alias(context_column(name)))
        for name, feature in self._schema.context.items():
            column = _field(self._schema.columns[name])
            columns.append(feature_values(pl.col(column), known[column], feature).alias(feature_column(name)))
        return columns

    def _feedback(self, known: Mapping[str, pl.DataType]) -> list[pl.Expr]:
        return [
            pl.col(MOMENT),
            pl.col(LINE),
            *(id_column(pl.col(name), known[name]).alias(_IDS[name]) for name in ("id", "impression")),
            pl.col("event").alias(KIND),
            *(pl.col(value_column(name)) for name in self._values),
        ]

    def _arrow_schema(self, lines: Sequence[bytes]) -> pa.Schema | None:
        """The types that the first lines have; None where they are of kinds that Arrow might not read alike."""
        try:
            events = [event for event in map(msgspec.json.decode, lines) if isinstance(event, dict)]
        except UNREADABLE:
            return None
        fields = {
            "event": pa.string(),
            "time": _type_of(events, "time", {str: pa.string(), int: pa.float64(), float: pa.float64()}),
        }
        fields |= {name: _type_of(events, name, {str: pa.string(), int: pa.int64()}) for name in _IDS}
        fields |= {name: pa.float64() for name in self._values}
        contexts = [event["context"] for event in events if isinstance(event.get("context"), dict)]
        nested = {name: self._context_type(name, contexts) for name in self._fields}
        if None in fields.values() or None in nested.values() or not _OWN.isdisjoint(self._values):
            return None
        if nested:
            fields["context"] = pa.struct(list(nested.items()))
        return pa.schema(list(fields.items()))

    def _context_type(self, name: str, contexts: Sequence[Mapping[str, Any]]) -> pa.DataType | None:
        readers = [self._schema.context[feature] for feature, column in self._schema.columns.items() if column == name]
        if any(isinstance(reader, VectorFeature) for reader in readers):
            return pa.list_(pa.float64()) if len(readers) == 1 and name not in self._schema.scalars else None
        if any(isinstance(reader, ListFeature) and reader.separator is None for reader in readers):
            return _list_type(contexts, name) if len(readers) == 1 and name not in self._schema.scalars else None
        if readers and name not in self._schema.scalars and all(isinstance(one, NumericFeature) for one in readers):
            return _type_of(contexts, name, {float: pa.float64(), int: pa.float64(), bool: pa.bool_()})
        return _type_of(contexts, name, {str: pa.string(), int: pa.int64(), bool: pa.bool_()})


def _one_object_a_line(text: bytes) -> tuple[int, bytes]:
    """The number of lines, and the text with plain line ends; 0 where a line could be anything but one object in UTF-8.

    Where every line begins with ``{`` and ends with ``}`` no object can reach over two lines, since ``}`` is never
    followed by ``{`` inside of one.
    """
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    if not text.endswith(b"\n"):
        text += b"\n"
    bytes_N = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(bytes_N == ord("\n"))
    begins = np.concatenate([[0], ends[:-1] + 1])
    if not ((bytes_N[begins] == ord("{")).all() and (bytes_N[ends - 1] == ord("}")).all()):
        return 0, text
    if any(word[:1] in text and word in text for word in (b"NaN", b"Inf")) and _NOT_A_NUMBER.search(text):
        return 0, text
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            return 0, text
    return len(ends), text


def _usual_moments(times: pa.ChunkedArray) -> pl.Series | None:
    """Microseconds since 1970 where the times of each chunk are written alike and in UTC: `_MOMENT` for all at once.

    Of texts of one length, with a ``T`` and a point in their places and a ``Z`` at the end, Arrow reads only those that
    are moments of the calendar with digits in all places of digits.
    """
    if times.type != pa.string() or times.null_count or not all(map(_alike, times.chunks)):
        return None
    try:
        read = pl.Series(MOMENT, pl.from_arrow(times.cast(pa.timestamp("us", "UTC")))).to_physical()
    except pa.ArrowInvalid:
        return None
    earliest, latest = read.min(), read.max()
    usual = isinstance(earliest, int) and isinstance(latest, int) and earliest >= 0 and latest < _YEAR_2100
    return read if usual else None


def _alike(texts: pa.StringArray) -> bool:
    """Whether these are moments to a second or to a fraction of it, all to the same, with a ``Z``."""
    if len(texts) == 0:
        return True
    starts = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    length = int(starts[1] - starts[0])
    if length not in _LENGTHS or not (np.diff(starts) == length).all():
        return False
    chars_NL = np.frombuffer(texts.buffers()[2], np.uint8)[starts[0] : starts[-1]].reshape(-1, length)
    places = [(10, ord("T")), (length - 1, ord("Z")), *([(19, ord("."))] if length > _LENGTHS[0] else [])]
    return all(bool((chars_NL[:, place] == char).all()) for place, char in places)


def _moments(texts: pl.Series) -> pl.Series:
    """Microseconds since 1970 of ISO 8601 texts; null where there is no such day or hour."""
    try:  # Arrow reads them ten times as fast as Polars, all or none
        read = texts.to_arrow().cast(pa.timestamp("us", "UTC"))
        return pl.Series(texts.name, pl.from_arrow(read)).to_physical()
    except pa.ArrowInvalid:
        return texts.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False).to_physical()


def _type_of(rows: Sequence[Mapping[str, Any]], name: str, types: Mapping[type, pa.DataType]) -> pa.DataType | None:
    """The Arrow type for the first value of a field; where it has none, that for what the field usually holds."""
    for row in rows:
        if (value := row.get(name)) is not None:
            return types.get(type(value))
    return next(iter(types.values()))


def _list_type(rows: Sequence[Mapping[str, Any]], name: str) -> pa.DataType | None:
    lists = [row[name] for row in rows if isinstance(row.get(name), list)]
    inner = _type_of([{name: value} for values in lists for value in values], name, {str: pa.string(), int: pa.int64()})
    return None if inner is None else pa.list_(inner)


def _field(name: str) -> str:
    """Column that holds a field of the context meanwhile."""
    return f"context.{name}"
