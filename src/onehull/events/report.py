"""What assembly found: counts that add up, labels by task, rows by part."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onehull.errors import ArtifactError
from onehull.spec.section import Section

SAMPLES_FILE, QUARANTINE_FILE, REPORT_FILE = "samples.parquet", "quarantine.jsonl", "report.json"


class TaskLabels(Section):
    """Labels of one task over all rows."""

    known: int
    missing: int
    positive: int | None
    """Labels that are 1 (binary) or above 0 (regression); None for classes."""
    mean: float | None
    """Mean of the known labels."""


class LogBooks(Section):
    """Every line of an event log, in exactly one of these counts."""

    lines: int
    blank: int
    impressions: int
    """Used: one sample each."""
    impression_duplicates: int
    """Delivered again, with the same content."""
    impression_conflicts: int
    """Delivered again with another content; the earliest was used."""
    feedback: int
    """Used: inside the window of at least one task."""
    feedback_by_kind: dict[str, int]
    """Used feedback by kind of event."""
    feedback_duplicates: int
    feedback_conflicts: int
    late: int
    """Feedback after every window that it could count in."""
    unused: dict[str, int]
    """Feedback of kinds that no task reads."""
    quarantined: dict[str, int]
    """Rejected lines by reason; they stand in the quarantine file."""
    complete_until: datetime
    """The log was taken to be complete up to this moment."""

    @property
    def accounted(self) -> int:
        """Sum of all counts; equal to `lines`."""
        repeated = self.impression_duplicates + self.impression_conflicts
        repeated += self.feedback_duplicates + self.feedback_conflicts
        refused = self.late + sum(self.unused.values()) + sum(self.quarantined.values())
        return self.blank + self.impressions + self.feedback + repeated + refused


class AssemblyReport(Section):
    """What assembly found."""

    rows: int
    """Samples written."""
    repeated: int = 0
    """Samples among them that repeat an earlier one, because its label came late (see `tasks.NAME.late`)."""
    rows_read: int
    """Rows of the tables, or impressions of the log without repeated deliveries."""
    duplicates_dropped: int
    """Rows dropped because they equal another row (`data.drop_duplicates`)."""
    outside_split: int
    """Rows that belong to no part of the split."""
    splits: dict[str, int]
    """Rows of each part."""
    tasks: dict[str, TaskLabels]
    time_first: datetime | None
    time_last: datetime | None
    users: int
    """Distinct users."""
    items: int
    """Distinct items."""
    log: LogBooks | None = None
    """The books of the event log; None for ready-made tables."""
    simulated: str | None = None
    """The parameters of the simulation, where the input is simulated."""
    notes: tuple[str, ...] = ()
    """What a reader should know before trusting a model trained on this."""


def read_report(directory: Path) -> AssemblyReport:
    """Reads the report beside a samples table.

    Raises:
        ArtifactError: it is missing or not readable.
    """
    path = directory / REPORT_FILE
    try:
        return AssemblyReport.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}. Make it with: onehull assemble") from error


def report_table(report: AssemblyReport) -> RenderableType:
    """The report for a terminal."""
    parts: list[RenderableType] = []
    if report.simulated is not None:
        parts.append(Text(f"Simulated data: {report.simulated}", style="bold yellow"))
    parts.append(_rows_line(report))
    parts.append(_task_table(report))
    if report.log is not None:
        parts.append(_log_table(report.log))
    parts += [Text(f"! {note}", style="yellow") for note in report.notes]
    return Group(*parts)


def _rows_line(report: AssemblyReport) -> Text:
    parts = ", ".join(f"{name} {rows:,}" for name, rows in report.splits.items())
    text = f"{report.rows:,} samples: {parts}; {report.users:,} users, {report.items:,} items"
    if report.time_first is not None and report.time_last is not None:
        text += f"; {report.time_first:%Y-%m-%d %H:%M} to {report.time_last:%Y-%m-%d %H:%M} UTC"
    further = (
        (report.repeated, "of them again, with a label that came late"),
        (report.duplicates_dropped, "duplicates dropped"),
        (report.outside_split, "in no part"),
    )
    for count, what in further:
        text += f"; {count:,} {what}" if count else ""
    return Text(text)


def _task_table(report: AssemblyReport) -> Table:
    table = Table("task", box=None, pad_edge=False)
    for heading in ("labels", "positive", "mean", "missing"):
        table.add_column(heading, justify="right")
    for name, labels in report.tasks.items():
        positive = "" if labels.positive is None else f"{labels.positive:,}"
        mean = "" if labels.mean is None else f"{labels.mean:.4g}"
        table.add_row(name, f"{labels.known:,}", positive, mean, f"{labels.missing:,}")
    return table


def _log_table(log: LogBooks) -> Table:
    table = Table("line of the log", box=None, pad_edge=False)
    table.add_column("count", justify="right")
    rows = [
        ("impressions", log.impressions),
        ("feedback inside a window", log.feedback),
        ("delivered again", log.impression_duplicates + log.feedback_duplicates),
        ("delivered again, other content", log.impression_conflicts + log.feedback_conflicts),
        ("feedback after its window", log.late),
        *((f"no task reads {kind}", count) for kind, count in log.unused.items()),
        *((f"quarantined: {reason}", count) for reason, count in log.quarantined.items()),
        ("blank", log.blank),
    ]
    for what, count in rows:
        if count:
            table.add_row(what, f"{count:,}")
    table.add_row("all lines", f"{log.lines:,}", style="bold")
    return table
