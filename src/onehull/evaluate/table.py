"""The report in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onehull.evaluate.columns import Table as Figures
from onehull.evaluate.columns import comparison_rows, interval, kind_tables
from onehull.evaluate.numerals import UNDEFINED, count, signed
from onehull.evaluate.report import Comparison, Report

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_STYLES = {"better": "green", "worse": "bold red", "no difference shown": "dim", "undefined": "dim"}
_NOT_SHOWN = {"normalized_entropy"}
"""On the page only: eight columns do not fit 80 characters."""


def report_table(report: Report) -> Table:
    """The metrics of all tasks, one block a kind, then the comparison; it fits 80 columns.

    Args:
        report: what `evaluate` returned.
    """
    from rich.table import Table
    from rich.text import Text

    users = "" if report.users is None else f", {count(report.users)} users"
    title = Text(f"{report.name} on {report.split}: {count(report.rows)} rows{users}", style="bold")
    outer = Table.grid()
    outer.add_row(title)
    if report.simulated is not None:
        outer.add_row(Text(f"Simulated data: {report.simulated}", style="yellow"))
    for figures in kind_tables(report):
        outer.add_row("")
        outer.add_row(_figures_table(figures))
    if report.comparison is not None:
        outer.add_row("")
        outer.add_row(_comparison_table(report.comparison))
    return outer


def _empty(first: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    return table


def _figures_table(figures: Figures) -> Table:
    from rich.text import Text

    shown = [place for place, column in enumerate(figures.columns) if column.key not in _NOT_SHOWN]
    table = _empty(figures.title)
    for place in shown:
        table.add_column(figures.columns[place].title, justify="right", no_wrap=True)
    for task, texts in figures.rows:
        table.add_row(Text(task), *(_text(texts[place]) for place in shown))
    return table


def _comparison_table(comparison: Comparison) -> Table:
    from rich.text import Text

    table = _empty("Against single-task")
    for title in ("Single", "Difference", "95 % interval"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for row in comparison_rows(comparison):
        name = Text.assemble(row.task, " ", (row.metric, "dim"))
        verdict = Text(row.verdict.removesuffix(" shown"), style=_STYLES[row.verdict])
        table.add_row(name, *map(_text, (row.baseline, row.difference, row.interval)), verdict)
    table.add_section()
    gain = UNDEFINED if comparison.delta_m is None else f"{signed(comparison.delta_m, 2)} %"
    table.add_row("Mean gain", "", *map(_text, (gain, interval(comparison.delta_m_low, comparison.delta_m_high, 2))))
    return table


def _text(words: str) -> Text:
    from rich.text import Text

    return Text("n/a" if words == UNDEFINED else words, style="dim" if words == UNDEFINED else "")
