"""The room's second door: the data report of freshly assembled samples, and the files that hold it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from onehull.events.files import find_files
from onehull.events.report import QUARANTINE_FILE, SAMPLES_FILE, AssemblyReport, LogBooks, read_report
from onehull.files import write_whole
from onehull.monitor.delays import feedback_delays
from onehull.monitor.drift import drift
from onehull.monitor.findings import LeakReport
from onehull.monitor.page import render_page
from onehull.monitor.periods import label_periods
from onehull.monitor.report import DATA_REPORT_HTML, DATA_REPORT_JSON, DataReport, Example, Rejected, Stage
from onehull.spec import Spec
from onehull.spec.samples import SPLITS
from onehull.streams.segments import BOOKS_FILE, read_books

_EXAMPLES = 3
_LINES = 200_000
"""Lines of the quarantine in which examples are looked for."""


def data_report(spec: Spec, data_dir: Path, directory: Path, leakage: LeakReport) -> DataReport:
    """Describes what assembly made of the input; nothing is held in memory but bounded parts and counts.

    Args:
        spec: the spec.
        data_dir: directory of the input.
        directory: what assembly has filled.
        leakage: what the guard found there.

    Raises:
        ArtifactError: the report of assembly is missing.
    """
    books = read_report(directory)
    samples = directory / SAMPLES_FILE
    by, periods = label_periods(samples, spec.tasks)
    delays, share = feedback_delays(spec, data_dir, samples)
    return DataReport(
        name=spec.name,
        simulated=books.simulated,
        rows=books.rows,
        users=books.users,
        items=books.items,
        time_first=books.time_first,
        time_last=books.time_last,
        stages=(*_broker_stages(spec, data_dir), *_stages(books)),
        by=by,
        periods=periods,
        kinds={name: task.kind for name, task in spec.tasks.items()},
        delays=delays,
        delays_share=share,
        rejected=_rejected(books.log, directory / QUARANTINE_FILE),
        leakage=leakage,
        drift=drift(spec, samples),
        notes=(*books.notes, *leakage.notes),
    )


def write_data_report(report: DataReport, directory: Path) -> None:
    """Writes ``data_report.json`` and ``data_report.html``; the same report gives the same bytes.

    Raises:
        ArtifactError: a file cannot be written.
    """
    write_whole(directory / DATA_REPORT_JSON, report.model_dump_json(indent=1) + "\n")
    write_whole(directory / DATA_REPORT_HTML, render_page(report))


def _broker_stages(spec: Spec, data_dir: Path) -> list[Stage]:
    """What `onehull ingest` read and refused, where the log is segments."""
    events = spec.data.events
    patterns = [events.impressions, events.feedback] if events is not None else []
    files = {file for pattern in patterns for file in find_files(data_dir, pattern)}
    segments = sorted(file.parent for file in files if (file.parent / BOOKS_FILE).is_file())
    if not segments:
        return []
    admitted, again, refused = 0, 0, Counter[str]()
    for segment in segments:
        books = read_books(segment)
        admitted, again = admitted + books.events, again + books.repeated
        refused.update({f"refused: {reason}": count for reason, count in books.quarantined.items()})
    count = admitted + again + refused.total()
    return [Stage(name="messages of the broker", count=count, left=_some({**refused, "delivered again": again}))]


def _stages(books: AssemblyReport) -> list[Stage]:
    """From the raw input to the training rows; what a stage leaves behind is told with it."""
    outside = {"in no part of the split": books.outside_split}
    if books.log is None:
        repeated = {"duplicates": books.duplicates_dropped}
        first = [Stage(name="rows of the tables", count=books.rows_read, left=_some({**repeated, **outside}))]
    else:
        first = [*_log_stages(books.log), Stage(name="impressions", count=books.log.impressions, left=_some(outside))]
    parts = {f"{name} part": books.splits.get(name, 0) for name in SPLITS if name != "train"}
    samples = Stage(name="samples", count=books.rows, left=parts)
    return [*first, samples, Stage(name="training rows", count=books.splits.get("train", 0))]


def _log_stages(log: LogBooks) -> list[Stage]:
    repeated = log.impression_duplicates + log.feedback_duplicates
    conflicts = log.impression_conflicts + log.feedback_conflicts
    left = {
        "blank": log.blank,
        **{f"rejected: {reason}": count for reason, count in log.quarantined.items()},
        "delivered again": repeated,
        "delivered again with other content": conflicts,
        "feedback after its window": log.late,
        **{f"no task reads {kind}": count for kind, count in log.unused.items()},
    }
    joined = {"feedback, joined to its impression": log.feedback}
    used = Stage(name="events that count", count=log.impressions + log.feedback, left=_some(joined))
    return [Stage(name="lines of the log", count=log.lines, left=_some(left)), used]


def _some(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _rejected(log: LogBooks | None, path: Path) -> tuple[Rejected, ...]:
    """The reasons by their count, each with its first lines."""
    if log is None or not log.quarantined:
        return ()
    found: dict[str, list[Example]] = {reason: [] for reason in log.quarantined}
    with path.open(encoding="utf-8") as file:
        for _, line in zip(range(_LINES), file, strict=False):
            entry = json.loads(line)
            examples = found.setdefault(entry["reason"], [])
            if len(examples) < _EXAMPLES:
                examples.append(Example(**{key: entry[key] for key in ("file", "line", "detail", "raw")}))
            if all(len(one) >= min(_EXAMPLES, log.quarantined.get(why, 0)) for why, one in found.items()):
                break
    ordered = sorted(log.quarantined.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Rejected(reason=why, count=count, examples=tuple(found[why])) for why, count in ordered)
