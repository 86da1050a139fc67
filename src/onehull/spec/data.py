"""Where the input is, which columns identify a row, and how rows are split."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from onehull.spec.section import Duration, Fraction, Section

Scalar = str | int | float | bool


class EventLog(Section):
    """A log of impressions and a log of feedback on them, as JSON Lines (plain or gzip)."""

    impressions: str
    """Glob of the impression files, relative to the data directory."""
    feedback: str
    """Glob of the feedback files, relative to the data directory."""
    complete_until: datetime | None = None
    """The log is complete up to this moment (UTC). Default: the latest event seen."""
    lateness: Duration | None = None
    """Assemble as a stream: events may come this much later than others that happened after them, and what has been
    read is not read again. Memory then holds the events of one window, not the log. Default: the log is joined at once.
    """


class Table(Section):
    """Attributes of a user or an item, joined to every row by a key.

    With `time` the table is a history: an id may have many rows, and a sample gets the one that was known at its
    time. Without it the table holds each id once, and its values count for all time.
    """

    path: str
    """Parquet, CSV or JSON Lines file, relative to the data directory."""
    key: str
    """Column of this table that holds the id."""
    time: str | None = None
    """Column that says when a row's values became true: a date or time, or numbers or text of `data.time_unit`."""
    created: str | None = None
    """Column that says when a row was written, in the same form. A row counts from the later of the two moments on, so
    that what was filled in afterwards is no knowledge of the time that it speaks of."""

    @model_validator(mode="after")
    def _created_needs_time(self) -> Table:
        if self.created is not None and self.time is None:
            raise ValueError("must name time, when a value became true, where it names created")
        return self


class Tables(Section):
    """The attribute tables of the two entities that a ranker knows."""

    user: Table | None = None
    item: Table | None = None


class TimeSplit(Section):
    """Validation and test are the last stretches of time: nothing is trained on the future."""

    by: Literal["time"] = "time"
    validation: Duration
    """Length of the validation stretch, right before the test stretch."""
    test: Duration
    """Length of the test stretch, counted back from the last row."""


class ColumnSplit(Section):
    """Rows belong to a part by the value of a column, for example a date."""

    by: Literal["column"]
    column: str
    validation: Annotated[tuple[Scalar, ...], Field(min_length=1)]
    test: Annotated[tuple[Scalar, ...], Field(min_length=1)]
    train: tuple[Scalar, ...] | None = None
    """Values of the training rows. Default: every value that the other two parts do not name."""


class RandomSplit(Section):
    """Rows are drawn at random, from the holdout file where there is one, else from all rows."""

    by: Literal["random"]
    validation: Fraction
    test: Fraction
    seed: Annotated[int, Field(ge=0)] = 0
    group: Literal["row", "user"] = "row"
    """``user`` keeps all rows of a user in one part."""


class FileSplit(Section):
    """Validation and test are files of their own."""

    by: Literal["files"]
    validation: str
    test: str


Split = Annotated[TimeSplit | ColumnSplit | RandomSplit | FileSplit, Field(discriminator="by")]


class Data(Section):
    """The input: either an event log or a ready-made table of samples."""

    events: EventLog | None = None
    """A log of impressions and feedback, joined by `assemble`."""
    samples: str | None = None
    """A ready-made table: one row a sample, labels in columns (Parquet or CSV; a glob is allowed)."""
    holdout: str | None = None
    """A second ready-made table that training never sees; a random split cuts it into validation and test."""
    drop_duplicates: bool = False
    """Drop rows that equal another row in every column (the count is reported)."""
    tables: Tables = Tables()
    """Attributes of users and items."""
    user: str | None = None
    """Column that identifies the user; needed for GAUC and for serving."""
    item: str | None = None
    """Column that identifies the item; needed for serving."""
    time: str | None = None
    """Column that holds the time of the impression; needed for a time split."""
    time_unit: Literal["s", "ms", "us", "iso"] = "s"
    """Unit of the time column: seconds, milliseconds or microseconds since 1970, or ISO 8601 text."""
    split: Split
    """How rows are divided into training, validation and test."""

    @model_validator(mode="before")
    @classmethod
    def _event_columns(cls, values: object) -> object:
        # Events have a fixed schema (spec/events.py), so their key columns are not the author's to name.
        if isinstance(values, dict) and values.get("events") is not None:
            return {"user": "user", "item": "item", "time": "time", **values}
        return values
