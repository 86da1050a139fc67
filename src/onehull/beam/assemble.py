"""The join of an event log as a Beam pipeline: an engine for `onehull.events.assemble`.

Whatever decides over an event is the code of `onehull.events`, run on whole keys: lines are decoded file by file,
feedback is grouped by its delivery key and freed of repetitions, then impressions and feedback are grouped by the id of
the impression and joined. Keys are gathered in partitions by their checksum, so that one call joins many keys::

    files ─► decode ─┬─ feedback ─► by delivery key ─► first of each ─┐
                     │                                                ├─► by impression ─► join ─► parts
                     └─ impressions ──────────────────────────────────┘

What needs all rows at once (their order, the split) and the attributes of users and items follow here, on the parts,
as Polars streams them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from onehull.beam.runner import pipeline_options, require_beam
from onehull.events import AssemblyReport, Progress, assemble
from onehull.events.join import JoinCounts
from onehull.events.joined import JoinedLog, complete_until
from onehull.events.log import quarantine_events
from onehull.events.names import FILE, ID, LINE, MOMENT
from onehull.events.quarantine import Quarantine
from onehull.events.schema import EventSchema
from onehull.spec import Spec

PARTITION_BYTES = 64 << 20
"""Bytes of log files for each partition of the keys by default: what one join holds in memory, some times over."""


def assemble_on_beam(
    spec: Spec, data_dir: Path, out_dir: Path, options: str = "", *, progress: Progress | None = None
) -> AssemblyReport:
    """`onehull.events.assemble`, with the log decoded and joined by a Beam runner; the artifacts are the same.

    Ready-made tables have nothing to join: they are read here.

    Args:
        spec: the spec.
        data_dir: directory that its paths are relative to; all workers see it under this path.
        out_dir: where the artifacts go; all workers see it, since they exchange files in it.
        options: Beam's flags (`onehull.beam.runner.pipeline_options`).
        progress: told what is being done and the share that is done.

    Raises:
        SpecError: the spec names files or columns that the data do not have.
        DataError: there is nothing to assemble, or a value is not as declared.
        ArtifactError: the disk is full or not writable; earlier artifacts are intact.
        MissingPartError: apache-beam is not installed.
        RunnerError: the options cannot be read, or the pipeline failed.
    """
    require_beam()
    out_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out_dir.resolve(), prefix=".beam-") as workspace:
        engine = BeamJoin(Path(workspace), options)
        return assemble(spec, data_dir, out_dir, progress=progress, engine=engine)


class BeamJoin:
    """A `JoinLog` (`onehull.events.joined`) that runs on Beam.

    Args:
        workspace: an empty directory that all workers see; the joined parts stay there.
        options: Beam's flags.
        partition_bytes: bytes of log files for each partition of the keys.
    """

    def __init__(self, workspace: Path, options: str = "", partition_bytes: int = PARTITION_BYTES) -> None:
        self._workspace, self._options, self._partition_bytes = workspace, options, partition_bytes

    def __call__(
        self,
        spec: Spec,
        files: Sequence[Path],
        schema: EventSchema,
        quarantine: Quarantine,
        progress: Progress | None = None,
    ) -> JoinedLog:
        """Decodes and joins the files of a log."""
        from onehull.beam.joining import Join, run_join

        if progress is not None:
            progress("joining on Beam", 0.0)
        paths = [file.resolve() for file in files]
        partitions = 1 + sum(file.stat().st_size for file in paths) // self._partition_bytes
        books = run_join(Join(spec, schema, self._workspace, partitions), paths, pipeline_options(self._options))
        for entry in books.rejected:
            quarantine.reject(paths[entry.file], entry.line, entry.reason, entry.detail, entry.raw)
        for (reason, detail), events in books.unjoined.items():
            quarantine_events(pl.DataFrame(events, [FILE, LINE], orient="row"), paths, quarantine, reason, detail)
        until = complete_until(spec, books.lines.latest)
        if not books.parts:
            return JoinedLog(pl.LazyFrame(), 0, books.lines, JoinCounts(), until)
        impressions = pl.scan_parquet(books.parts).sort(MOMENT, ID)
        return JoinedLog(impressions, books.counts.impressions, books.lines, books.counts, until)
