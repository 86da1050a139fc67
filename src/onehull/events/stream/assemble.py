"""The builder of streams: from files that grow to samples that are complete, and to a table of them."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from onehull.errors import ArtifactError, DataError
from onehull.events.ahead import ahead
from onehull.events.atomic import writable
from onehull.events.complete import Attributes, event_rows, sample_columns
from onehull.events.decode import BlockDecoder, LineCounts
from onehull.events.divide import SPLIT_VALUE
from onehull.events.join import JoinCounts, Reject
from onehull.events.joined import JoinedLog
from onehull.events.labels import finish_labels
from onehull.events.log import Progress
from onehull.events.quarantine import Quarantine
from onehull.events.schema import event_schema
from onehull.events.sources import feature_sources
from onehull.events.stream.epochs import (
    FEEDBACK_FILE,
    IMPRESSIONS_FILE,
    EpochBooks,
    Epochs,
    NewEpoch,
    link_files,
    quarantine_files,
    sample_files,
)
from onehull.events.stream.inputs import Inputs
from onehull.events.stream.windows import NOTHING_CLOSED, OpenWindows
from onehull.spec import Spec
from onehull.spec.data import ColumnSplit

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_STEP_ROWS = 1_000_000
"""Windows are closed after so many events, or as many as are open: the cost of looking through what is open is then
a share of the cost of reading."""
COMMIT_SECONDS = 30.0
_LOOK_SECONDS = 1.0


class Stream:
    """Assembles samples from an event log that is read once.

    Args:
        spec: the spec, with ``data.events.lateness``.
        data_dir: directory that its paths are relative to.
        directory: where the epochs are kept; continued where there are some.
        made_for: fingerprint of what the spec says of samples.
        links: where another process adds to the stream, a directory for links to its files; `run` does nothing.
        step_rows: events after which windows are closed, at least.
        commit_seconds: how long an epoch lasts while there is more to read, or to wait for.

    Attributes:
        epoch: name of the epoch that the samples are taken from; empty where there is none.

    Raises:
        ArtifactError: the epochs were made for another spec, or are damaged.
    """

    def __init__(
        self,
        spec: Spec,
        data_dir: Path,
        directory: Path,
        made_for: str,
        *,
        links: Path | None = None,
        step_rows: int = _STEP_ROWS,
        commit_seconds: float = COMMIT_SECONDS,
    ) -> None:
        events = spec.data.events
        if events is None or events.lateness is None:
            raise DataError(f"data.events.lateness must be given to assemble a stream. Received {events!r}.")
        self.spec = spec
        self.epochs = Epochs(directory)
        self._links = links
        self._step_rows = step_rows
        self._commit_seconds = commit_seconds
        self._lateness = events.lateness
        sources = feature_sources(spec, data_dir)
        self._context = [name for name, source in sources.items() if source == "context"]
        self._scalars = [spec.data.split.column] if isinstance(spec.data.split, ColumnSplit) else []
        self._schema = event_schema(spec, self._context, self._scalars)
        self._attributes = Attributes(spec, data_dir, sources)
        self._made_for = made_for
        self.epoch = ""
        self._last, self._books, self.windows = self._resume()
        if self._books is not None and self._books.made_for != made_for:
            rule = "holds samples of another spec (features, tasks or data differ)"
            raise ArtifactError(f"{directory} {rule}. Begin anew with --force, or choose another --out.")
        self.inputs = Inputs(
            data_dir, [events.impressions, events.feedback], self._books.places if self._books is not None else {}
        )
        self.joined = JoinCounts()
        self.lines = LineCounts()
        self.quarantined: Counter[str] = Counter()
        if self._books is not None:
            self.joined = JoinCounts(**self._books.joined, feedback_by_kind=dict(self._books.feedback_by_kind))
            self.lines = LineCounts(
                self._books.lines, self._books.blank, Counter(self._books.unused), float(self._books.latest)
            )
            self.quarantined = Counter(self._books.quarantined)

    @property
    def read_only(self) -> bool:
        """Whether another process adds to the stream."""
        return self._links is not None

    def run(self, *, stop: Callable[[], bool] | None = None, progress: Progress | None = None) -> None:
        """Reads what there is; with `stop`, also what comes, until it says so. All of it is durable at the end.

        Raises:
            DataError: a file is damaged, or was replaced by a shorter one.
            ArtifactError: the disk is full or not writable; the last whole epoch is intact.
        """
        if self.read_only:
            return
        while True:
            more = self._epoch(stop, progress)
            if not more if stop is None else stop():
                return
            if not more:
                time.sleep(_LOOK_SECONDS)
            self.inputs.look()

    def _epoch(self, stop: Callable[[], bool] | None, progress: Progress | None) -> bool:
        """Reads for a while and commits; returns whether there may be more to read at once."""
        if not self.inputs.pending and not self._can_close(waiting=stop is not None):
            return False
        with writable(self.epochs.directory):
            epoch = self.epochs.begin()
            with Quarantine(epoch.quarantine) as quarantine:
                self._read(epoch, quarantine, stop, progress)
                self._close(epoch, quarantine, self.inputs.complete_until(waiting=stop is not None))
            self._commit(epoch, quarantine)
        return self.inputs.pending

    def _read(
        self,
        epoch: NewEpoch,
        quarantine: Quarantine,
        stop: Callable[[], bool] | None,
        progress: Progress | None,
    ) -> None:
        """Decodes blocks and closes windows on the way, until everything has been read or it is time to commit."""
        decoder = BlockDecoder(self._schema, quarantine, self.lines)
        reject = _rejecter(quarantine)
        end = time.monotonic() + self._commit_seconds
        held, impressions, feedback = 0, [], []

        def enough() -> bool:
            return time.monotonic() > end or (stop is not None and stop())

        waiting = stop is not None
        while True:
            # What is complete is asked when a block is read: others are read before this one is decoded.
            reads = ((path, block, self.inputs.complete_until(waiting=waiting)) for path, block in self.inputs)
            for (path, block, complete_until), columns in ahead(reads, lambda read: decoder.columns(read[1]), enough):
                decoded = decoder.decode(block, path, 0, columns)
                impressions.append(decoded[0])
                feedback.append(decoded[1])
                held += block.count
                if progress is not None:
                    progress("reading the log", self.inputs.share)
                if held >= max(self._step_rows, self.windows.rows):
                    self.windows.add(pl.concat(impressions), pl.concat(feedback), reject)
                    held, impressions, feedback = 0, [], []
                    self._close(epoch, quarantine, complete_until)
            if not waiting or enough():
                break
            time.sleep(_LOOK_SECONDS)
            self.inputs.look()
        if impressions:
            self.windows.add(pl.concat(impressions), pl.concat(feedback), reject)

    def _close(self, epoch: NewEpoch, quarantine: Quarantine, complete_until: float) -> None:
        """Writes the samples whose windows have closed."""
        watermark = self._watermark(complete_until)
        if watermark is None or self.windows.rows == 0:
            return
        joined = self.windows.close(watermark, _rejecter(quarantine), self.joined)
        if joined.is_empty():
            return
        self._complete(joined).collect().write_parquet(epoch.next_samples(), compression="lz4", statistics=False)

    def _watermark(self, complete_until: float) -> int | None:
        """Microseconds since 1970; None before the first event."""
        late = self._lateness.total_seconds()
        return int((complete_until - late) * 1e6) if complete_until > float("-inf") else None

    def _can_close(self, *, waiting: bool) -> bool:
        """Whether time alone has closed windows: a source that held the others up has gone idle."""
        watermark = self._watermark(self.inputs.complete_until(waiting=waiting))
        if watermark is None or self.windows.impressions.is_empty():
            return False
        oldest = self.windows.impressions["moment"].min()
        assert isinstance(oldest, int)  # noqa: S101  there is one
        return oldest <= watermark - self.windows.longest

    def _commit(self, epoch: NewEpoch, quarantine: Quarantine) -> None:
        self.windows.impressions.write_parquet(epoch.directory / IMPRESSIONS_FILE, compression="lz4")
        self.windows.feedback.write_parquet(epoch.directory / FEEDBACK_FILE, compression="lz4")
        self.quarantined += quarantine.counts
        joined = dict(vars(self.joined))
        books = EpochBooks(
            made_for=self._made_for,
            places=self.inputs.places,
            closed=self.windows.closed,
            latest=int(self.lines.latest),
            lines=self.lines.lines,
            blank=self.lines.blank,
            unused=dict(sorted(self.lines.unused.items())),
            quarantined=dict(sorted(self.quarantined.items())),
            feedback_by_kind=joined.pop("feedback_by_kind"),
            joined=joined,
        )
        self._last = self.epochs.commit(epoch, books)
        self.epoch = self._last.name

    def _resume(self) -> tuple[Path | None, EpochBooks | None, OpenWindows]:
        """The last epoch. Beside a process that adds epochs its files are linked: that one removes old epochs."""
        for last_try in (False, False, True):
            found = self.epochs.last()
            if found is None:
                break
            epoch, books = found
            try:
                frames = (pl.read_parquet(epoch / IMPRESSIONS_FILE), pl.read_parquet(epoch / FEEDBACK_FILE))
                if self._links is not None:
                    shutil.rmtree(self._links, ignore_errors=True)
                    self._links.mkdir(parents=True)
                    link_files(epoch, self._links)
            except (OSError, pl.exceptions.PolarsError) as error:
                if last_try:
                    remedy = "Restore it, or begin anew with --force."
                    raise ArtifactError(f"{epoch} is damaged: {error}. {remedy}") from error
            else:
                self.epoch = epoch.name
                return self._links or epoch, books, OpenWindows(self.spec.tasks, *frames, books.closed)
        return None, None, OpenWindows(self.spec.tasks, pl.DataFrame(), pl.DataFrame(), NOTHING_CLOSED)

    def samples(self, until: datetime, quarantine: Quarantine) -> JoinedLog:
        """All samples, sorted by (time, id): those that have left, and the open ones as they are now.

        Args:
            until: everything up to this moment has come; labels whose window is open then are missing.
            quarantine: told of everything that was rejected, and of feedback that has no impression yet.

        Returns:
            In place of the impressions, columns of the samples table without its split; with `SPLIT_VALUE` where the
            split goes by a column.
        """
        counts, parts = replace(self.joined), [pl.scan_parquet(path) for path in self.sample_files()]
        for path in quarantine_files(self._last) if self._last is not None else ():
            quarantine.copy(path)
        if self.windows.rows:
            moment = (until - _EPOCH) // _MICROSECOND
            parts.append(self._complete(self.windows.look(moment, _rejecter(quarantine), counts)))
        samples = pl.concat(parts) if parts else pl.LazyFrame()
        return JoinedLog(samples, counts.impressions, self.lines, counts, until)

    def sample_files(self) -> list[Path]:
        """Parquet files of the samples that have left, sorted by (time, id) throughout."""
        return sample_files(self._last) if self._last is not None else []

    def _complete(self, joined: pl.DataFrame) -> pl.LazyFrame:
        rows = finish_labels(event_rows(joined.lazy(), self.spec, self._context, self._scalars), self.spec.tasks)
        columns = [*sample_columns(self.spec), *([SPLIT_VALUE] if self._scalars else [])]
        return self._attributes.attach(rows).select(columns)


def _rejecter(quarantine: Quarantine) -> Reject:
    def reject(events: pl.DataFrame, reason: Any, detail: str) -> None:
        known = [name for name in ("id", "kind", "impression", "user", "item", "moment") if name in events.columns]
        for event in events.select(known).iter_rows(named=True):
            quarantine.reject_event(event, reason, detail)

    return reject
