"""A whole event log, joined: what an engine hands over to assembly, and the engine that runs here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl

from onehull.events.decode import LineCounts
from onehull.events.join import JoinCounts, join
from onehull.events.log import Log, Progress, quarantine_events, read_log
from onehull.events.quarantine import Quarantine
from onehull.events.schema import EventSchema
from onehull.spec import Spec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class JoinedLog:
    """Impressions with the raw labels of all tasks.

    Attributes:
        impressions: see `onehull.events.join.join`.
        rows: how many there are.
        lines: what was seen of the log.
        counts: where the decoded events went.
        complete_until: the log was taken to be complete up to this moment.
    """

    impressions: pl.LazyFrame
    rows: int
    lines: LineCounts
    counts: JoinCounts
    complete_until: datetime


JoinLog = Callable[[Spec, Sequence[Path], EventSchema, Quarantine, Progress | None], JoinedLog]
"""Decodes and joins the files of a log; what it rejects it puts into the quarantine, in the order of `join_log`."""


def join_log(
    spec: Spec, files: Sequence[Path], schema: EventSchema, quarantine: Quarantine, progress: Progress | None = None
) -> JoinedLog:
    """Joins a log in this process.

    Args:
        spec: the spec; it reads an event log.
        files: log files.
        schema: what is read of each line.
        quarantine: where rejected lines go.
        progress: told what is being done and the share that is done.

    Raises:
        DataError: a file is unreadable, damaged or cut off.
    """
    log = read_log(files, schema, quarantine, progress)
    until = complete_until(spec, log.counts.latest)
    if log.impressions.is_empty():
        return JoinedLog(log.impressions.lazy(), 0, log.counts, JoinCounts(), until)
    if progress is not None:
        progress("joining feedback", 0.0)
    joined, counts = join(log, spec.tasks, until, partial(_reject, log, quarantine))
    return JoinedLog(joined.lazy(), len(joined), log.counts, counts, until)


def complete_until(spec: Spec, latest: float) -> datetime:
    """The moment up to which a log is complete: what the spec says, or its latest event.

    Args:
        spec: the spec; it reads an event log.
        latest: moment of the latest event, microseconds since 1970.
    """
    declared = spec.data.events.complete_until if spec.data.events is not None else None
    if declared is None:
        return _EPOCH + timedelta(microseconds=latest)
    return declared if declared.tzinfo is not None else declared.replace(tzinfo=UTC)


def _reject(log: Log, quarantine: Quarantine, events: pl.DataFrame, reason: str, detail: str) -> None:
    quarantine_events(events, log.files, quarantine, reason, detail)  # type: ignore[arg-type]
