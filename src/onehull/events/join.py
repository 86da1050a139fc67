"""Impressions with the feedback that belongs to them: duplicates, attribution windows, raw labels.

Rules, for a task with window w and an impression at t:

- an event counts when t ≤ its time ≤ t + w;
- while the window is open, that is until the log is complete up to t + w, the label is missing, also where an event
  has already come: of the rows with an open window only positives would have labels, and every rate would be too high;
- then, binary: 1 with at least one such event, else 0; regression: their sum; multiclass: the class of the last one
  (of several at the same moment, values decide, never the order of lines), missing without one;
- feedback older than its impression is a fault of a clock or of an id, and is rejected.

Every impression gives exactly one row, and nothing depends on the order of lines or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from onehull.events.log import Log
from onehull.events.names import FILE, ID, KIND, LINE, MOMENT, REFERENCE, value_column
from onehull.events.quarantine import Reason
from onehull.spec.samples import label_column
from onehull.spec.tasks import BinaryTask, MulticlassTask, Task

ROW, SHOWN = "row", "shown"
"""Columns of matched feedback: the row of its impression, and the moment of it."""
_MICROSECOND = timedelta(microseconds=1)

Reject = Callable[[pl.DataFrame, Reason, str], None]


@dataclass
class JoinCounts:
    """Where the decoded events went; together with rejected ones they are all of them."""

    impressions: int = 0
    impression_duplicates: int = 0
    impression_conflicts: int = 0
    feedback: int = 0
    feedback_duplicates: int = 0
    feedback_conflicts: int = 0
    late: int = 0
    feedback_by_kind: dict[str, int] = field(default_factory=dict)

    def add(self, other: JoinCounts) -> None:
        """Adds the counts of other events."""
        for name, value in vars(other).items():
            if isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)
        kinds = Counter(self.feedback_by_kind) + Counter(other.feedback_by_kind)
        self.feedback_by_kind = dict(sorted(kinds.items()))


def join(
    log: Log, tasks: Mapping[str, Task], complete_until: datetime, reject: Reject
) -> tuple[pl.DataFrame, JoinCounts]:
    """One row an impression, with the raw labels of all tasks.

    Args:
        log: the decoded log.
        tasks: all tasks.
        complete_until: the log holds everything that happened up to this moment.
        reject: called with feedback that has no impression, or is older than it.

    Returns:
        The impressions sorted by (time, id), with a Float64 column ``y.NAME`` for each task; and the counts.
    """
    counts = JoinCounts()
    impressions, counts.impression_duplicates, counts.impression_conflicts = first_of_each(log.impressions, pl.col(ID))
    impressions = impressions.sort(MOMENT, ID)
    feedback, counts.feedback_duplicates, counts.feedback_conflicts = first_of_each(log.feedback, delivery_key())
    matched, absent = match(feedback, impressions)
    reject(absent, "no_impression", "the log has no usable impression with this id")
    return label(impressions, matched, tasks, complete_until, reject, counts), counts


def label(
    impressions: pl.DataFrame,
    matched: pl.DataFrame,
    tasks: Mapping[str, Task],
    complete_until: datetime,
    reject: Reject,
    counts: JoinCounts,
) -> pl.DataFrame:
    """Adds the raw labels to impressions.

    Args:
        impressions: each once.
        matched: their feedback, each once, see `match`.
        tasks: all tasks.
        complete_until: the log holds everything that happened up to this moment.
        reject: called with feedback that is older than its impression.
        counts: told where the events went.
    """
    early = pl.col(MOMENT) < pl.col(SHOWN)
    reject(matched.filter(early), "before_impression", "feedback must not be older than its impression")
    inside, counts.late = _inside_windows(matched.filter(~early), tasks)
    counts.impressions = len(impressions)
    counts.feedback = len(inside)
    counts.feedback_by_kind = {str(kind): rows for kind, rows in sorted(inside.group_by(KIND).len().iter_rows())}
    moments = impressions[MOMENT].to_numpy()
    until = (complete_until - datetime(1970, 1, 1, tzinfo=complete_until.tzinfo)) // _MICROSECOND
    labels = [
        pl.Series(label_column(name), _raw_label(task, inside, moments, until), dtype=pl.Float64, nan_to_null=True)
        for name, task in tasks.items()
    ]
    return impressions.hstack(labels)


def match(feedback: pl.DataFrame, impressions: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divides feedback by whether its impression is among those given.

    Returns:
        Feedback with the row and the moment of its impression; and the feedback that has none.
    """
    shown = impressions.select(pl.col(ID).alias(REFERENCE), pl.col(MOMENT).alias(SHOWN)).with_row_index(ROW)
    joined = feedback.join(shown, on=REFERENCE, how="left", maintain_order="left")
    absent = pl.col(ROW).is_null()
    return joined.filter(~absent), joined.filter(absent).drop(ROW, SHOWN)


def first_of_each(events: pl.DataFrame, key: pl.Expr) -> tuple[pl.DataFrame, int, int]:
    """Keeps one event of each key: the earliest, and of several at one moment the one whose content sorts first.

    Args:
        events: decoded events.
        key: what is unique.

    Returns:
        The events that stay, the number of dropped ones that equal the one kept, and the number of dropped ones
        that say something else.
    """
    keys = events.select(key.alias("key"))["key"]
    suspects = _suspects(keys)
    if not suspects.any():
        return events, 0, 0
    keyed = events.filter(suspects).with_columns(keys.filter(suspects))
    repeated = keyed["key"].is_duplicated()
    content = pl.struct(pl.exclude(FILE, LINE, "key")).struct.json_encode().alias("content")
    place = [name for name in (FILE, LINE) if name in events.columns]
    groups = keyed.filter(repeated).with_columns(content).sort(MOMENT, "content", *place)
    kept = groups.unique("key", keep="first", maintain_order=True)
    same = groups.filter(pl.col("content") == pl.col("content").first().over("key"))
    stay = pl.concat([events.filter(~suspects), keyed.filter(~repeated).drop("key"), kept.drop("content", "key")])
    return stay, len(same) - len(kept), len(groups) - len(same)


def _suspects(keys: pl.Series) -> pl.Series:
    """Rows whose key has the hash of another's: those that are repeated and hardly more, found ten times as fast."""
    hashes = keys.hash()
    ordered = np.sort(hashes.to_numpy())
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    return (
        hashes.is_in(pl.Series(repeated, dtype=pl.UInt64)) if len(repeated) else pl.repeat(False, len(keys), eager=True)
    )


def delivery_key() -> pl.Expr:
    """The event's id; without one (impression, event, time). A used kind and a number hold no NUL."""
    unnamed = pl.format("?{}\0{}\0{}", pl.col(MOMENT), pl.col(KIND), pl.col(REFERENCE))
    return pl.when(pl.col(ID).is_not_null()).then("=" + pl.col(ID)).otherwise(unnamed)


def _inside_windows(matched: pl.DataFrame, tasks: Mapping[str, Task]) -> tuple[pl.DataFrame, int]:
    """Feedback inside the window of a task, in an order that no file decides; and how much comes after every window."""
    delay = pl.col(MOMENT) - pl.col(SHOWN)
    inside = [(pl.col(KIND) == task.event) & (delay <= window(task)) for task in tasks.values()]
    values = [name for name in matched.columns if name.startswith(value_column(""))]
    used = matched.filter(pl.any_horizontal(inside)).sort(ROW, MOMENT, *values)
    return used, len(matched) - len(used)


def window(task: Task) -> int:
    """Length of the attribution window in microseconds."""
    return (task.window or timedelta(0)) // _MICROSECOND


def _raw_label(task: Task, used: pl.DataFrame, moments: np.ndarray, until: int) -> np.ndarray:
    """Raw values ``(rows,)``; NaN is missing."""
    length = window(task)
    delay = pl.col(MOMENT) - pl.col(SHOWN)
    events = used.filter((pl.col(KIND) == task.event) & (delay <= length))
    rows = events[ROW].to_numpy()
    is_open = moments + length > until
    labels = np.full(len(moments), np.nan) if isinstance(task, MulticlassTask) else np.zeros(len(moments))
    if isinstance(task, BinaryTask):
        labels[rows] = 1.0
    else:
        values = events[value_column(task.value or "value")].to_numpy()
        if isinstance(task, MulticlassTask):
            labels[rows] = values  # of equal indices, NumPy keeps the last
        else:
            labels = np.bincount(rows, weights=values, minlength=len(moments)).astype(np.float64)
    labels[is_open] = np.nan
    return labels
