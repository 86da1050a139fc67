"""Labels that come late: rows that leave before a window has closed, and rows that leave again.

For a task with ``late`` and an impression at t, with the wait v (0 for ``fnw``) and the window w:

- the first row holds what had happened by t + v;
- ``fnw``, ``es_dfm``: where the event comes later, but inside the window, a second row has label 1;
- ``defer``: every sample has a second row with its final label: when the event comes, or when the window closes.

A second row has labels of this task only. What training makes of them is `onehull.model.late_labels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from onehull.events.join import ROW, SHOWN, window
from onehull.events.names import KIND, MOMENT
from onehull.spec.late import Defer, Late
from onehull.spec.samples import REPEATS, SAMPLE, SPLIT, TIME, label_column
from onehull.spec.tasks import BinaryTask, Task

SENT = "sent"
"""Column of open impressions: the first row has left."""
_MICROSECOND = timedelta(microseconds=1)


def settled(task: str) -> str:
    """Column of open impressions: nothing more will leave for this task."""
    return f"settled.{task}"


@dataclass(frozen=True)
class LateTasks:
    """The tasks whose samples leave early.

    Attributes:
        late: how, by task.
        windows: of all tasks, microseconds.
        events: kind of the event that each late task is about.
    """

    late: Mapping[str, Late]
    windows: Mapping[str, int]
    events: Mapping[str, str]

    @classmethod
    def of(cls, tasks: Mapping[str, Task]) -> LateTasks | None:
        """None where all samples wait for their windows to close."""
        late = {name: task.late for name, task in tasks.items() if isinstance(task, BinaryTask) and task.late}
        if not late:
            return None
        windows = {name: window(task) for name, task in tasks.items()}
        return cls(late, windows, {name: tasks[name].event or "" for name in late})

    @property
    def first(self) -> int:
        """How long after the impression its first row leaves, in microseconds."""
        waits = {name: late.wait // _MICROSECOND for name, late in self.late.items()}
        return max(waits.get(name, length) for name, length in self.windows.items())

    def fresh(self, impressions: pl.DataFrame) -> pl.DataFrame:
        """Impressions that have just come, with the columns of open ones."""
        no = pl.lit(value=False)
        return impressions.with_columns(no.alias(SENT), *(no.alias(settled(name)) for name in self.late))

    def rows(
        self, joined: pl.DataFrame, matched: pl.DataFrame, watermark: int, *, unsent: bool = False
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows that leave now.

        Args:
            joined: open impressions with the labels of all tasks, see `onehull.events.join.label`.
            matched: their feedback, see `onehull.events.join.match`.
            watermark: everything up to this moment has come, microseconds since 1970.
            unsent: also impressions whose first row may not leave yet; a label that is not known yet is missing.

        Returns:
            First rows, then second ones, with the column `REPEATS`; and the impressions, with what has left noted.
        """
        known = joined.with_row_index(ROW).hstack(self._first_events(joined, matched, watermark))
        leaves = ~pl.col(SENT) & (pl.lit(unsent) | (pl.col(MOMENT) + self.first <= watermark))
        now = [
            pl.when(pl.col(MOMENT) + late.wait // _MICROSECOND <= watermark)
            .then((pl.col(_delay(name)) <= late.wait // _MICROSECOND).fill_null(value=False).cast(pl.Float64))
            .alias(label_column(name))
            for name, late in self.late.items()
        ]
        first = known.filter(leaves).with_columns(*now, pl.lit(None, pl.String).alias(REPEATS))
        known = known.with_columns(
            *(
                (pl.col(settled(name)) | self._settled_at_first(name, leaves)).alias(settled(name))
                for name in self.late
            ),
            (pl.col(SENT) | leaves).alias(SENT),
        )
        parts = [first]
        for name in self.late:
            again = pl.col(SENT) & ~pl.col(settled(name)) & self._comes_again(name, watermark)
            parts.append(self._second(known.filter(again), name))
            known = known.with_columns((pl.col(settled(name)) | again).alias(settled(name)))
        columns = [*(column for column in joined.columns if column != ROW), REPEATS]
        return pl.concat([part.select(columns) for part in parts]), known.select(joined.columns)

    def _settled_at_first(self, name: str, leaves: pl.Expr) -> pl.Expr:
        """With its event in the first row a sample is settled, unless it comes again in any case."""
        late = self.late[name]
        if isinstance(late, Defer):
            return pl.lit(value=False)
        return leaves & (pl.col(_delay(name)) <= late.wait // _MICROSECOND).fill_null(value=False)

    def _comes_again(self, name: str, watermark: int) -> pl.Expr:
        late, delay = self.late[name], pl.col(_delay(name))
        came = delay.is_not_null()
        if not isinstance(late, Defer):
            return came
        closed = pl.col(MOMENT) + self.windows[name] <= watermark
        return (came & (delay > late.wait // _MICROSECOND)) | closed

    def _second(self, rows: pl.DataFrame, name: str) -> pl.DataFrame:
        others = [label_column(other) for other in self.windows if other != name]
        label = pl.col(_delay(name)).is_not_null().cast(pl.Float64)
        empty = [pl.lit(None, pl.Float64).alias(column) for column in others]
        return rows.with_columns(label.alias(label_column(name)), *empty, pl.lit(name).alias(REPEATS))

    def _first_events(self, joined: pl.DataFrame, matched: pl.DataFrame, watermark: int) -> pl.DataFrame:
        """Delay of each late task's first event inside its window; null where none has come."""
        rows = joined.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias(ROW))
        delay = pl.col(MOMENT) - pl.col(SHOWN)
        usable = matched.filter((delay >= 0) & (pl.col(MOMENT) <= watermark))
        for name, event in self.events.items():
            inside = usable.filter((pl.col(KIND) == event) & (delay <= self.windows[name]))
            firsts = inside.group_by(ROW).agg(delay.min().alias(_delay(name)))
            rows = rows.join(firsts, on=ROW, how="left", maintain_order="left")
        return rows.drop(ROW)


def final_labels(rows: pl.LazyFrame, tasks: Mapping[str, Task], until: datetime) -> pl.LazyFrame:
    """What decides over a model has final labels: validation and test rows keep none that may change.

    Args:
        rows: samples with `SPLIT` and `REPEATS`.
        tasks: all tasks.
        until: everything up to this moment has come; labels whose window is open then are missing.

    Returns:
        Training rows as they are; other parts without repeated rows, each label being the final one.
    """
    late = {name: task for name, task in tasks.items() if isinstance(task, BinaryTask) and task.late}
    train, repeats = pl.col(SPLIT) == "train", pl.col(REPEATS)
    for name, task in late.items():
        label = pl.col(label_column(name))
        came = rows.filter(~train & (repeats == name) & (label == 1)).select(SAMPLE, came=pl.lit(value=True)).unique()
        closed = pl.col(TIME) + (task.window or timedelta(0)) <= until
        final = pl.when(closed).then(pl.max_horizontal(label, pl.col("came").cast(pl.Float64)))
        rows = (
            rows.join(came, on=SAMPLE, how="left", maintain_order="left")
            .with_columns(pl.when(train).then(label).otherwise(final).alias(label_column(name)))
            .drop("came")
        )
    return rows.filter(train | repeats.is_null())


def _delay(task: str) -> str:
    return f"delay.{task}"
