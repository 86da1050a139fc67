"""The report as one HTML page: text from a template, plots as inline SVG, nothing from the network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count as counter
from typing import TYPE_CHECKING

from onehull.evaluate import numerals, plots
from onehull.evaluate.columns import METRIC_NAMES, Table, comparison_rows, expert_rows, gate_rows, kind_tables
from onehull.evaluate.report import Bins, Report, TaskReport
from onehull.evaluate.svg import draw

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Plot:
    """A drawing with its words."""

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class Section:
    """One task of the page."""

    name: str
    kind: str
    headline: tuple[tuple[str, str], ...]
    plots: tuple[Plot, ...]
    note: str


class _Drawer:
    """Draws plots with ids that are unique on the page."""

    def __init__(self) -> None:
        self._numbers = counter(1)

    def __call__(self, title: str, label: str, paint: plots.Paint, caption: str, *, height: float = 2.9) -> Plot:
        from markupsafe import Markup

        # The drawing is ours and escapes its own texts.
        svg = Markup(draw(f"plot-{next(self._numbers)}", label, paint, height=height))  # noqa: S704
        return Plot(title, svg, caption)


def render_page(report: Report) -> str:
    """The page as text; the same report gives the same text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("onehull.evaluate", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=numerals.count, fixed=numerals.fixed, signed=numerals.signed, percent=numerals.percent
    )
    drawer = _Drawer()
    tables: tuple[Table, ...] = kind_tables(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        tables=tables,
        comparison=comparison_rows(report.comparison),
        comparison_plots=_comparison_plots(report, drawer),
        worse=[]
        if report.comparison is None
        else [t for t, d in report.comparison.tasks.items() if d.negative_transfer],
        sections=[_section(report, name, task, drawer) for name, task in report.tasks.items()],
        saving=_saving(report),
        gate_plots=_gate_plots(report, drawer),
        conflict_plots=_conflict_plots(report, drawer),
        conflicts=[] if report.conflicts is None else [pair for pair in report.conflicts.pairs() if pair[2] < 0],
        gates=() if report.experts is None else gate_rows(report.experts),
        experts=() if report.experts is None else expert_rows(report.experts),
    )


def _section(report: Report, name: str, task: TaskReport, drawer: _Drawer) -> Section:
    return Section(name, task.kind, _headline(task), tuple(_task_plots(report, name, task, drawer)), _note(task))


def _task_plots(report: Report, name: str, task: TaskReport, drawer: _Drawer) -> list[Plot]:
    drawn: list[Plot] = []
    if task.roc is not None:
        area = numerals.fixed(task.metrics["auc"])
        label = f"ROC curve of {name}, area {area}"
        drawn.append(drawer("ROC", label, plots.roc(task.roc), f"Area {area}. Dotted: chance."))
    if task.calibration is not None:
        drawn.append(_calibration(name, task, task.calibration, drawer))
    if task.by_duration is not None:
        paint = plots.along(task.by_duration, "Mean duration of the decile")
        caption = "Rows sorted by duration, ten parts of equal size."
        drawn.append(drawer("By duration", f"Mean label and prediction of {name} by duration", paint, caption))
    train, validation = plots.loss_curves(report.history, name)
    if any(value is not None for value in (*train, *validation)):
        caption = "Ring: lowest validation loss."
        drawn.append(drawer("Loss by epoch", f"Loss of {name} by epoch", plots.losses(train, validation), caption))
    return drawn


def _calibration(name: str, task: TaskReport, bins: Bins, drawer: _Drawer) -> Plot:
    fewest, most = min(bins.rows), max(bins.rows)
    rows = numerals.count(fewest) if fewest == most else f"{numerals.count(fewest)} to {numerals.count(most)}"
    number = f"{len(bins.rows)} bins" if len(bins.rows) > 1 else "One bin"
    paint = plots.calibration(bins, probability=task.kind == "binary")
    caption = f"{number} of {rows} rows, with 95 % intervals. Dotted: calibrated."
    title = "Calibration" if task.kind == "binary" else "Label by decile of prediction"
    return drawer(title, f"Mean label against mean prediction of {name}", paint, caption)


def _headline(task: TaskReport) -> tuple[tuple[str, str], ...]:
    metrics = task.metrics
    counts = (("labelled", numerals.count(metrics["labelled"])), ("missing", numerals.count(metrics["missing"])))
    match task.kind:
        case "binary":
            return (
                ("AUC", numerals.fixed(metrics["auc"])),
                ("positive", numerals.percent(metrics["mean_label"])),
                ("predicted", numerals.percent(metrics["mean_prediction"])),
                *counts,
            )
        case "regression":
            return (
                ("RMSE", numerals.significant(metrics["rmse"])),
                ("mean label", numerals.significant(metrics["mean_label"])),
                ("mean prediction", numerals.significant(metrics["mean_prediction"])),
                *counts,
            )
        case "multiclass":
            return (("accuracy", numerals.fixed(metrics["accuracy"])), *counts)


def _note(task: TaskReport) -> str:
    if not task.metrics["labelled"]:
        return "No row of this part has a label of this task, so nothing can be measured."
    if task.kind == "binary" and task.metrics["auc"] is None:
        return "All labels of this part are equal: AUC and the ROC curve are undefined."
    if task.constant is None:
        return ""
    where = "training" if task.constant.source == "train" else "these rows"
    value, error = numerals.significant(task.constant.value), numerals.significant(task.constant.rmse)
    return f"Always predicting {value}, the mean of {where}, has an RMSE of {error}."


def _comparison_plots(report: Report, drawer: _Drawer) -> list[Plot]:
    drawn: list[Plot] = []
    comparison = report.comparison
    if comparison is not None and plots.has_intervals(comparison):
        names = ", ".join(sorted({METRIC_NAMES[d.metric] for d in comparison.tasks.values()}))
        height = 1.1 + 0.38 * len(comparison.tasks)
        caption = f"{names}, relative to the single-task model, with 95 % intervals."
        label = "Relative gain of each task over its single-task model"
        drawn.append(drawer("Gain over single-task models", label, plots.forest(comparison), caption, height=height))
    if report.costs is not None:
        costs = report.costs
        caption = f"{numerals.size(costs.total_bytes)} instead of {numerals.size(costs.independent_bytes)}."
        label = f"{costs.total} parameters, {costs.independent} in single-task models"
        drawn.append(drawer("Parameters", label, plots.parameters(costs), caption, height=1.9))
    return drawn


def _gate_plots(report: Report, drawer: _Drawer) -> list[Plot]:
    """A drawing for each level, as high as it has gates."""
    if report.experts is None:
        return []
    drawn: list[Plot] = []
    levels = sorted({gate.level for gate in report.experts.gates})
    for level in levels:
        gates = [gate for gate in report.experts.gates if gate.level == level]
        title = "Weights of the experts" + (f", level {level}" if len(levels) > 1 else "")
        label = f"Mean weight of each expert in each of {len(gates)} gates of level {level}"
        caption = "A row for each gate, a column for each expert. Empty: the gate does not read it."
        drawn.append(drawer(title, label, plots.gate_weights(gates), caption, height=1.2 + 0.3 * len(gates)))
    return drawn


def _conflict_plots(report: Report, drawer: _Drawer) -> list[Plot]:
    """The matrix, and its pairs epoch by epoch."""
    conflicts = report.conflicts
    if conflicts is None:
        return []
    label = f"Mean cosines between the gradients of {len(conflicts.tasks)} tasks"
    caption = "Mean over training. Orange: conflict. Blue: agreement."
    height = 1.2 + 0.42 * len(conflicts.tasks)
    drawn = [drawer("Cosines of the gradients", label, plots.cosines(conflicts), caption, height=height)]
    if len(conflicts.by_epoch) > 1 and conflicts.pairs():
        label = "Cosine of each pair of tasks by epoch"
        caption = "The pairs with the strongest conflict. Dotted: neither conflict nor agreement."
        drawn.append(drawer("Cosines by epoch", label, plots.cosines_by_epoch(conflicts), caption))
    return drawn


def _saving(report: Report) -> str | None:
    costs = report.costs
    if costs is None or not costs.independent:
        return None
    return numerals.percent(1 - costs.total / costs.independent)
