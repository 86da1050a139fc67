"""The data report in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onehull.monitor import tables
from onehull.monitor.report import DataReport
from onehull.monitor.tables import TextTable

_PERIODS, _DRIFTS, _FEATURES = 14, 8, 5
_GAP = "…"
_SHORT = 24
"""Names up to this long, and days, are not folded."""


def data_report_table(report: DataReport) -> RenderableType:
    """The tables of the data report; of long ones the ends or the strongest rows. The page has all of them."""
    parts: list[RenderableType] = [Text(f"{report.name}: {tables.summary(report)}", style="bold")]
    if report.simulated is not None:
        parts.append(Text(f"Simulated data: {report.simulated}", style="bold yellow"))
    parts += [Text(f"! {text}", style="yellow") for text in (*report.leakage.warnings, *report.notes)]
    parts.append(Text("From the raw input to rows", style="bold"))
    parts.append(_drawn(tables.stage_table(report)))
    parts.append(Text(f"Label rates by {report.by}", style="bold"))
    parts.append(_drawn(_ends(tables.rate_table(report))))
    parts.append(Text(f"Missing labels by {report.by}", style="bold"))
    parts.append(_drawn(_ends(tables.missing_table(report))))
    if report.delays:
        parts.append(Text("Delays of feedback", style="bold"))
        parts.append(_drawn(tables.delay_table(report)))
    for task in report.kinds:
        table = tables.score_table(report, task)
        if table.rows:
            parts.append(Text(f"What single features tell of {task}", style="bold"))
            parts.append(_drawn(TextTable(table.columns, table.rows[:_FEATURES])))
    if report.drift is not None:
        parts.append(Text(f"Drift from {report.drift.first} to {report.drift.last}", style="bold"))
        table = tables.drift_table(report)
        parts.append(_drawn(TextTable(table.columns, table.rows[:_DRIFTS], table.words)))
    return Group(*parts)


def _ends(table: TextTable) -> TextTable:
    """The first and the last rows of a long table."""
    if len(table.rows) <= _PERIODS:
        return table
    gap = (_GAP,) * len(table.columns)
    rows = (*table.rows[: _PERIODS // 2], gap, *table.rows[-_PERIODS // 2 :])
    return TextTable(table.columns, rows, table.words)


def _drawn(table: TextTable) -> Table:
    """Texts of the user's are no markup."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    short = max((len(row[0]) for row in table.rows), default=0) <= _SHORT
    for place, title in enumerate(table.columns):
        left = place == 0 or place in table.words
        whole = short and place == 0
        drawn.add_column(Text(title), justify="left" if left else "right", overflow="fold", no_wrap=whole)
    for row in table.rows:
        drawn.add_row(*(Text(text) for text in row))
    return drawn
