"""The room's builder: from a spec and its data to the samples table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from onehull.errors import DataError, SpecError
from onehull.events.atomic import writable
from onehull.events.complete import Attributes, event_rows, sample_columns
from onehull.events.divide import POSITION, divide
from onehull.events.files import find_files
from onehull.events.inspect import data_faults
from onehull.events.joined import JoinedLog, JoinLog, complete_until, join_log
from onehull.events.labels import finish_labels
from onehull.events.late import final_labels
from onehull.events.log import Progress
from onehull.events.measure import check_samples, measure, notes
from onehull.events.quarantine import Quarantine
from onehull.events.report import QUARANTINE_FILE, REPORT_FILE, SAMPLES_FILE, AssemblyReport, LogBooks
from onehull.events.schema import event_schema
from onehull.events.sources import Source, feature_sources
from onehull.events.stream import Stream
from onehull.events.table import Rows, table_rows
from onehull.files import replacing
from onehull.spec import Spec
from onehull.spec.data import ColumnSplit, EventLog, TimeSplit
from onehull.spec.events import WORLD_MARKER
from onehull.spec.samples import REPEATS, SPLIT


def assemble(
    spec: Spec,
    data_dir: Path,
    out_dir: Path,
    *,
    progress: Progress | None = None,
    stream: Stream | None = None,
    engine: JoinLog = join_log,
) -> AssemblyReport:
    """Makes the samples table of a spec.

    Writes ``samples.parquet`` (columns: `onehull.spec.samples`), ``quarantine.jsonl`` (one object for each rejected
    line; empty where there is none) and ``report.json`` into `out_dir`. Samples of an event log are sorted by
    (time, id); those of ready-made tables keep their order.

    Args:
        spec: the spec.
        data_dir: directory that its paths are relative to.
        out_dir: where the artifacts go; made when it is missing.
        progress: told what is being done and the share that is done.
        stream: of the spec and the data; what it has not read is read, and its samples make the table.
        engine: what decodes and joins an event log. Default: this process.

    Returns:
        The report.

    Raises:
        SpecError: the spec names files or columns that the data do not have.
        DataError: there is nothing to assemble, or a value is not as declared.
        ArtifactError: the disk is full or not writable; earlier artifacts are intact.
    """
    faults = data_faults(spec, data_dir)
    if faults:
        raise SpecError(faults, str(data_dir))
    sources = feature_sources(spec, data_dir)
    try:
        with (
            writable(out_dir),
            replacing(out_dir / REPORT_FILE) as report_path,
            replacing(out_dir / QUARANTINE_FILE) as quarantine_path,
            replacing(out_dir / SAMPLES_FILE) as samples_path,
        ):
            with Quarantine(quarantine_path) as quarantine:
                if stream is not None:
                    rows, books = _stream_rows(spec, stream, data_dir, quarantine, progress)
                else:
                    rows, books = _rows(spec, data_dir, sources, quarantine, progress, engine)
                    rows = replace(rows, frame=Attributes(spec, data_dir, sources).attach(rows.frame))
            _write(spec, rows.frame, samples_path)
            report = _report(spec, data_dir, rows, books, samples_path)
            report_path.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{data_dir} does not hold what the spec declares: {str(error).splitlines()[0]}") from error
    return report


def _rows(
    spec: Spec,
    data_dir: Path,
    sources: Mapping[str, Source],
    quarantine: Quarantine,
    progress: Progress | None,
    engine: JoinLog,
) -> tuple[Rows, LogBooks | None]:
    if spec.data.events is None:
        return table_rows(spec, data_dir, sources), None
    return _event_rows(spec, spec.data.events, data_dir, sources, quarantine, progress, engine)


def _event_rows(
    spec: Spec,
    events: EventLog,
    data_dir: Path,
    sources: Mapping[str, Source],
    quarantine: Quarantine,
    progress: Progress | None,
    engine: JoinLog,
) -> tuple[Rows, LogBooks]:
    """Samples of an event log, and its books."""
    context = [name for name, source in sources.items() if source == "context"]
    split = spec.data.split
    scalars = [split.column] if isinstance(split, ColumnSplit) else []
    files = sorted({*find_files(data_dir, events.impressions), *find_files(data_dir, events.feedback)})
    joined = engine(spec, files, event_schema(spec, context, scalars), quarantine, progress)
    if joined.rows == 0:
        raise DataError(_no_impression(data_dir / events.impressions, joined, len(files), quarantine))
    rows = event_rows(joined.impressions.with_row_index(POSITION), spec, context, scalars)
    frame = finish_labels(divide(rows, split), spec.tasks)
    return Rows(frame, joined.rows, 0), _books(joined, quarantine)


def _stream_rows(
    spec: Spec, stream: Stream, data_dir: Path, quarantine: Quarantine, progress: Progress | None
) -> tuple[Rows, LogBooks | None]:
    """Samples that have left a stream and those that are open, and the stream's books."""
    stream.run(progress=progress)
    found = stream.samples(complete_until(spec, stream.lines.latest), quarantine)
    place = data_dir / (spec.data.events.impressions if spec.data.events is not None else "")
    if found.rows == 0 and stream.read_only:
        rule = f"the process that follows the log has made {found.lines.lines} lines durable, and no usable impression"
        raise DataError(f"{place}: {rule}. Wait for its next epoch (--commit-seconds) and run this again.")
    if found.rows == 0:
        raise DataError(_no_impression(place, found, stream.inputs.files, quarantine))
    rows = divide(found.impressions.with_row_index(POSITION), spec.data.split)
    if REPEATS in found.impressions.collect_schema():
        rows = final_labels(rows, spec.tasks, found.complete_until)
    return Rows(rows, found.rows, 0), _books(found, quarantine)


def _no_impression(place: Path, joined: JoinedLog, files: int, quarantine: Quarantine) -> str:
    first = f" The first rejected line: {quarantine.first}." if quarantine.first else ""
    return f"{place}: no usable impression in {joined.lines.lines} lines of {files} files.{first}"


def _books(joined: JoinedLog, quarantine: Quarantine) -> LogBooks:
    return LogBooks(
        lines=joined.lines.lines,
        blank=joined.lines.blank,
        unused=dict(sorted(joined.lines.unused.items())),
        quarantined=dict(sorted(quarantine.counts.items())),
        complete_until=joined.complete_until,
        **vars(joined.counts),
    )


def _write(spec: Spec, rows: pl.LazyFrame, path: Path) -> None:
    """Streams the table to a file."""
    first, *rest = sample_columns(spec)
    rows.select(first, pl.col(SPLIT).cast(pl.String), *rest).sink_parquet(path)


def _report(spec: Spec, data_dir: Path, rows: Rows, books: LogBooks | None, samples: Path) -> AssemblyReport:
    check_samples(samples, spec.tasks, spec.features, timed=isinstance(spec.data.split, TimeSplit))
    measured = measure(samples, spec.tasks)
    empty = [name for name, count in measured["splits"].items() if count == 0]
    if empty:
        remedy = "Change data.split so that each part has rows."
        raise DataError(f"data.split: no row belongs to {' and '.join(empty)} ({measured['rows']} rows). {remedy}")
    simulated = _simulated(data_dir)
    kinds = {name: task.kind for name, task in spec.tasks.items()}
    return AssemblyReport(
        **measured,
        rows_read=rows.read,
        duplicates_dropped=rows.duplicates,
        outside_split=rows.read - rows.duplicates - (measured["rows"] - measured["repeated"]),
        log=books,
        simulated=simulated,
        notes=tuple(notes(measured["tasks"], kinds, simulated)),
    )


def _simulated(data_dir: Path) -> str | None:
    """The parameters of the simulation that made the data; None where nothing says that they are simulated."""
    path = data_dir / WORLD_MARKER
    if not path.is_file():
        return None
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
        shown = [f"{marker[name]} {name}" for name in ("users", "items", "days") if name in marker]
        return ", ".join([*shown, f"seed {marker['seed']}"]) if "seed" in marker else f"{WORLD_MARKER} is present"
    except (OSError, ValueError, TypeError):
        return f"{WORLD_MARKER} is present"
