"""The columns of the tables, for the page and for the terminal alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onehull.evaluate.numerals import UNDEFINED, Value, count, fixed, percent, signed, significant
from onehull.evaluate.report import Comparison, Difference, Experts, Report, Verdict

METRIC_NAMES = {"auc": "AUC", "rmse": "RMSE", "log_loss": "log loss"}
KIND_NAMES = {"binary": "Binary", "regression": "Regression", "multiclass": "Multi-class"}


@dataclass(frozen=True)
class Column:
    """One figure of a task."""

    key: str
    title: str
    write: Callable[[Value], str]
    meaning: str


@dataclass(frozen=True)
class Table:
    """All tasks of one kind."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """Task, and a text for each column."""


@dataclass(frozen=True)
class ComparisonRow:
    """One task against its single-task model."""

    task: str
    metric: str
    value: str
    baseline: str
    difference: str
    interval: str
    verdict: Verdict
    words: str


def _three(value: Value) -> str:
    return fixed(value, 3)


def _share(value: float) -> str:
    """``12.3 %``: where the thousandth part says nothing."""
    return f"{100 * value:.1f} %"


_LABELLED = Column("labelled", "Labelled", count, "Rows with a label of this task. All figures are over these.")
_PCOC = Column("pcoc", "PCOC", _three, "Sum of predictions over sum of labels: 1 is calibrated, above 1 is too much.")

COLUMNS: dict[str, tuple[Column, ...]] = {
    "binary": (
        _LABELLED,
        Column("mean_label", "Rate", percent, "Share of positives among the labels."),
        Column("auc", "AUC", fixed, "How often a positive is scored above a negative; ties count half."),
        Column(
            "gauc", "GAUC", fixed, "AUC within each user, weighted by the user's rows, over users with both labels."
        ),
        Column("log_loss", "Log loss", fixed, "Mean cross-entropy in nats."),
        Column(
            "normalized_entropy", "NE", fixed, "Log loss over that of the constant rate: below 1 is better than it."
        ),
        _PCOC,
        Column("ece", "ECE", fixed, "Mean distance of label and prediction over ten bins of equal size."),
    ),
    "regression": (
        _LABELLED,
        Column("mean_label", "Mean", significant, "Mean label."),
        Column("rmse", "RMSE", significant, "Root of the mean squared error, in the unit of the label."),
        Column("constant", "Constant", significant, "RMSE of predicting the mean for every row."),
        Column("mae", "MAE", significant, "Mean absolute error, in the unit of the label."),
        Column(
            "xauc", "XAUC", fixed, "Share of pairs with different labels in the right order; equal predictions half."
        ),
        _PCOC,
    ),
    "multiclass": (
        _LABELLED,
        Column("log_loss", "Log loss", fixed, "Mean cross-entropy in nats."),
        Column("accuracy", "Accuracy", fixed, "Share of rows whose most probable class is the label."),
        Column("macro_auc", "Macro AUC", fixed, "Mean over classes of the AUC of one against the rest."),
    ),
}


def kind_tables(report: Report) -> tuple[Table, ...]:
    """A table for each kind of task that occurs; a column that no task has (GAUC without users) is left out."""
    tables = []
    for kind, every in COLUMNS.items():
        values = {name: _values(report, name) for name, task in report.tasks.items() if task.kind == kind}
        columns = tuple(column for column in every if any(column.key in found for found in values.values()))
        rows = tuple((name, tuple(c.write(found.get(c.key)) for c in columns)) for name, found in values.items())
        if rows:
            tables.append(Table(KIND_NAMES[kind], columns, rows))
    return tuple(tables)


def comparison_rows(comparison: Comparison | None) -> tuple[ComparisonRow, ...]:
    """A row for each task of a comparison."""
    if comparison is None:
        return ()
    return tuple(_comparison_row(task, difference) for task, difference in comparison.tasks.items())


def gate_rows(experts: Experts) -> tuple[tuple[str, ...], ...]:
    """A row for each gate: whose, level, mean entropy, the same as a share of the largest possible, largest weight."""
    return tuple(
        (g.task, str(g.level), _three(g.entropy_nats), _share(g.entropy_share), _share(g.mean_largest))
        for g in experts.gates
    )


def expert_rows(experts: Experts) -> tuple[tuple[str, ...], ...]:
    """A row for each expert: which, level, largest mean weight, units, dead ones, zeros."""
    return tuple(
        (
            unit.expert,
            str(unit.level),
            "no gate" if unit.largest_weight is None else _share(unit.largest_weight),
            count(unit.units),
            _share(unit.dead),
            _share(unit.zeros),
        )
        for unit in experts.experts
    )


def interval(low: Value, high: Value, digits: int = 4) -> str:
    """``−0.0012 … +0.0034``."""
    return UNDEFINED if low is None or high is None else f"{signed(low, digits)} … {signed(high, digits)}"


def _comparison_row(task: str, d: Difference) -> ComparisonRow:
    write = significant if d.metric == "rmse" else fixed
    words = "worse: negative transfer" if d.negative_transfer else d.verdict
    return ComparisonRow(
        task=task,
        metric=METRIC_NAMES[d.metric],
        value=write(d.value),
        baseline=write(d.baseline),
        difference=signed(d.difference),
        interval=interval(d.low, d.high),
        verdict=d.verdict,
        words=words,
    )


def _values(report: Report, name: str) -> dict[str, Value]:
    task = report.tasks[name]
    constant: dict[str, Value] = {} if task.constant is None else {"constant": task.constant.rmse}
    return {**task.metrics, **constant}
