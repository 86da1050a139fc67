"""What is open: impressions whose windows have not closed, and feedback that waits for its impression to close.

An impression at t leaves when t + w ≤ the watermark, w being the longest window of all tasks: whatever could count for
it has come, or comes too late. So its duplicates have come, too, and it is never seen again: what is older than the
last closing has had its chance.

Where a task has ``late``, rows leave before that (`onehull.events.late`); the impression is held as long all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from onehull.events.join import JoinCounts, Reject, delivery_key, first_of_each, label, match, window
from onehull.events.late import LateTasks
from onehull.events.names import FILE, ID, LINE, MOMENT
from onehull.spec.tasks import Task

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOTHING_CLOSED = -1
"""`OpenWindows.closed` before the first closing, microseconds since 1970."""


@dataclass
class OpenWindows:
    """Decoded events that a sample may still be made of.

    Attributes:
        tasks: all tasks.
        impressions: see `onehull.events.decode.BlockDecoder.decode`, without the place.
        feedback: the same.
        closed: impressions up to this moment have left, microseconds since 1970.
    """

    tasks: Mapping[str, Task]
    impressions: pl.DataFrame
    feedback: pl.DataFrame
    closed: int = NOTHING_CLOSED

    def __post_init__(self) -> None:
        self.late = LateTasks.of(self.tasks)

    @property
    def rows(self) -> int:
        """Events that are held."""
        return len(self.impressions) + len(self.feedback)

    @property
    def longest(self) -> int:
        """The longest window of all tasks, in microseconds."""
        return max(window(task) for task in self.tasks.values())

    def add(self, impressions: pl.DataFrame, feedback: pl.DataFrame, reject: Reject) -> None:
        """Adds decoded events.

        Args:
            impressions: as `onehull.events.decode.BlockDecoder.decode` returns them.
            feedback: the same.
            reject: called with impressions that come too late.
        """
        late = pl.col(MOMENT) <= self.closed
        came = impressions.drop(FILE, LINE)
        reject(came.filter(late), "too_late", "its windows had closed when it came; see data.events.lateness")
        came = came.filter(~late)
        self.impressions = _stack(self.impressions, came if self.late is None else self.late.fresh(came))
        self.feedback = _stack(self.feedback, feedback.drop(FILE, LINE))

    def close(self, watermark: int, reject: Reject, counts: JoinCounts) -> pl.DataFrame:
        """Lets go of the impressions whose windows have closed.

        Args:
            watermark: everything up to this moment has come, microseconds since 1970.
            reject: called with feedback that has no impression, or is older than it.
            counts: told where the events went.

        Returns:
            The rows that leave, sorted by (time, id), with a Float64 column ``y.NAME`` for each task; where a task has
            ``late``, with the column `onehull.spec.samples.REPEATS`, and repeated rows behind the others.
        """
        self.closed = max(self.closed, watermark - self.longest)
        here = JoinCounts()
        self._drop_repeated(here)
        early = self._early(watermark) if self.late is not None else None
        leaving = pl.col(MOMENT) <= self.closed
        closing = self.impressions.filter(leaving).sort(MOMENT, ID)
        self.impressions = self.impressions.filter(~leaving)
        matched, absent = match(self.feedback, closing)
        reject(absent.filter(leaving), "no_impression", "no impression has this id, or its windows had closed")
        self.feedback = absent.filter(~leaving)
        joined = self._label(closing, matched, watermark, reject, here)
        counts.add(here)
        return joined if early is None else early

    def _early(self, watermark: int) -> pl.DataFrame:
        """Rows that leave before the last window closes; notes which have."""
        assert self.late is not None  # noqa: S101  asked for
        due = pl.col(MOMENT) + self.late.first <= watermark
        waiting = self.impressions.filter(~due)
        rows, left = self._late_rows(self.impressions.filter(due).sort(MOMENT, ID), watermark, unsent=False)
        self.impressions = pl.concat([waiting, left.select(waiting.columns)])
        return rows

    def _late_rows(self, impressions: pl.DataFrame, until: int, *, unsent: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
        assert self.late is not None  # noqa: S101  asked for
        matched, _ = match(self.feedback, impressions)
        joined = self._label(impressions, matched, until, _told_elsewhere, JoinCounts())
        return self.late.rows(joined, matched, until, unsent=unsent)

    def look(self, until: int, reject: Reject, counts: JoinCounts) -> pl.DataFrame:
        """The open impressions as they are now; labels whose window is open are missing. Nothing leaves.

        Args:
            until: everything up to this moment has come, microseconds since 1970.
            reject: see `close`.
            counts: see `close`.
        """
        here = JoinCounts()
        self._drop_repeated(here)
        shown = self.impressions.sort(MOMENT, ID)
        matched, absent = match(self.feedback, shown)
        reject(absent, "no_impression", "the log has no usable impression with this id")
        joined = self._label(shown, matched, until, reject, here)
        counts.add(here)
        return joined if self.late is None else self._late_rows(shown, until, unsent=True)[0]

    def _drop_repeated(self, counts: JoinCounts) -> None:
        self.impressions, same, other = first_of_each(self.impressions, pl.col(ID))
        counts.impression_duplicates, counts.impression_conflicts = same, other

    def _label(
        self, impressions: pl.DataFrame, matched: pl.DataFrame, until: int, reject: Reject, counts: JoinCounts
    ) -> pl.DataFrame:
        once, counts.feedback_duplicates, counts.feedback_conflicts = first_of_each(matched, delivery_key())
        return label(impressions, once, self.tasks, _EPOCH + timedelta(microseconds=until), reject, counts)


def _told_elsewhere(events: pl.DataFrame, reason: str, detail: str) -> None:
    """Feedback that is rejected is so when its impression is let go of."""
    del events, reason, detail


def _stack(held: pl.DataFrame, came: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([held, came]) if held.width else came
