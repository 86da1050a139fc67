"""The data report as one HTML page, in the style of the evaluation report; every text of the user's is escaped."""

from __future__ import annotations

from itertools import count as counter
from typing import TYPE_CHECKING

from onehull.evaluate.numerals import count, percent
from onehull.evaluate.page import Plot
from onehull.evaluate.svg import draw
from onehull.monitor import plots, tables
from onehull.monitor.report import DataReport, Delay

if TYPE_CHECKING:
    from jinja2 import Environment

    from onehull.evaluate.plots import Paint

_STRONGEST = 15
"""Features of the first table of drift; a second one that opens has all."""
_MOST_TASKS = 24
"""Tasks whose rates are drawn; the table has all."""


class _Drawer:
    """Draws plots with ids that are unique on the page."""

    def __init__(self) -> None:
        self._numbers = counter(1)

    def __call__(self, title: str, label: str, paint: Paint, caption: str, *, height: float = 2.6) -> Plot:
        from markupsafe import Markup

        # The drawing is ours and escapes its own texts.
        svg = Markup(draw(f"plot-{next(self._numbers)}", label, paint, height=height))  # noqa: S704
        return Plot(title, svg, caption)


def render_page(report: DataReport) -> str:
    """The page as text; the same report gives the same text."""
    drawer = _Drawer()
    drift = tables.drift_table(report)
    return (
        _environment()
        .get_template("data_report.html.j2")
        .render(
            report=report,
            summary=tables.summary(report),
            warnings=report.leakage.warnings,
            stages=tables.stage_table(report),
            lost=_lost_plots(report, drawer),
            label_plots=_label_plots(report, drawer),
            rates=tables.rate_table(report),
            missing=tables.missing_table(report),
            delays=tables.delay_table(report),
            delay_plots=[_delay_plot(delay, drawer) for delay in report.delays if delay.events],
            scores=[(task, tables.score_table(report, task)) for task in report.kinds],
            drift=tables.TextTable(drift.columns, drift.rows[:_STRONGEST], drift.words),
            more_drift=tables.TextTable(drift.columns, drift.rows[_STRONGEST:], drift.words),
            drifted=[one.feature for one in report.drift.features if one.drifted] if report.drift is not None else [],
        )
    )


def _environment() -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    # The style sheet is that of the evaluation report.
    loaders = [PackageLoader("onehull.monitor", "template"), PackageLoader("onehull.evaluate", "template")]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(count=count, percent=percent)
    return environment


def _lost_plots(report: DataReport, drawer: _Drawer) -> list[Plot]:
    """Only a log loses lines in ways that deserve a drawing."""
    left = report.stages[0].left
    if len(report.stages) < 4 or not left:
        return []
    ordered = sorted(left.items(), key=lambda item: -item[1])
    paint = plots.left_behind([name for name, _ in ordered], [lines for _, lines in ordered])
    caption = "Lines of the log that gave no sample and no label. Logarithmic."
    label = "Lines left behind, by reason"
    return [drawer("Left behind", label, paint, caption, height=1.0 + 0.28 * len(ordered))]


def _label_plots(report: DataReport, drawer: _Drawer) -> list[Plot]:
    if len(report.periods) < 2:
        return []
    by, tasks = report.by, list(report.kinds)
    drawn = [drawer(f"Rows by {by}", f"Rows of each {by}", plots.rows(report.periods), "Samples of all parts.")]
    if any(labels.known < period.rows for period in report.periods for labels in period.tasks.values()):
        caption = "A window that is still open, a sample space, or missing in the data."
        paint = plots.missing(report.periods, tasks)
        drawn.append(drawer(f"Missing labels by {by}", f"Share of missing labels by {by}", paint, caption))
    for task in tasks[:_MOST_TASKS]:
        binary = report.kinds[task] == "binary"
        title = f"{task}: {'label rate' if binary else 'mean label'}"
        paint = plots.rate(report.periods, task, binary=binary)
        drawn.append(drawer(title, f"{title} by {by}", paint, "Of the known labels, with 95 % intervals."))
    return drawn


def _delay_plot(delay: Delay, drawer: _Drawer) -> Plot:
    late = f"Dotted: all, {percent(delay.after / (delay.events + delay.after))} come later. " if delay.after else ""
    label = f"Share of the feedback of {delay.task} that has come, along its window"
    caption = f"{late}The axis ends with the window."
    return drawer(f"{delay.task}: delay of feedback", label, plots.delay(delay), caption)
