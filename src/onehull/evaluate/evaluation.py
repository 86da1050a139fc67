"""From predictions to a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onehull.errors import DataError
from onehull.evaluate.comparison import compare
from onehull.evaluate.curves import calibration_bins, duration_bins, roc_points
from onehull.evaluate.measures import TaskRows
from onehull.evaluate.report import Conflicts, Constant, Costs, Experts, Report, TaskReport
from onehull.metrics import rmse, task_metrics
from onehull.spec.samples import USER, SplitName, feature_column, label_column
from onehull.spec.tasks import Task

Floats = NDArray[np.float64]
Predictions = Mapping[str, NDArray[Any]]


def evaluate(
    tasks: Mapping[str, Task],
    rows: pl.DataFrame,
    predictions: Predictions,
    *,
    split: SplitName,
    name: str,
    baseline: Predictions | None = None,
    history: Sequence[Mapping[str, float]] = (),
    costs: Any = None,
    experts: Mapping[str, Any] | None = None,
    conflicts: Mapping[str, Any] | None = None,
    simulated: str | None = None,
    duration_column: str | None = None,
    train_means: Mapping[str, float] | None = None,
    resamples: int | None = None,
    seed: int = 0,
) -> Report:
    """Measures a model on one part of the samples.

    Every metric of a task is taken on the rows where its label exists. Nothing depends on the order of the tasks.

    Args:
        tasks: name → task.
        rows: rows of the samples table in the order of the predictions; ``y.TASK``, and ``user`` where there is one.
        predictions: task → ``(B,)`` probabilities or values, ``(B, classes)`` for a multi-class task.
        split: which part the rows are.
        name: of the model.
        baseline: predictions of single-task models on the same rows.
        history: one mapping of losses an epoch.
        costs: what `onehull.evaluate.report.Costs` holds, as a mapping or a dataclass.
        experts: what `onehull.evaluate.report.Experts` holds, for a model with gates.
        conflicts: what `onehull.evaluate.report.Conflicts` holds, for a training that compared gradients.
        simulated: what the data say about being simulated.
        duration_column: feature whose value is a duration, to show regression tasks against it.
        train_means: mean label of regression tasks in training, for the constant predictor.
        resamples: of the bootstrap. Default: 200 to 1,000, fewer for more rows.
        seed: of the bootstrap.

    Raises:
        DataError: a label column or a task's predictions are missing, do not fit the rows, or are not finite.
    """
    users = _users(rows)
    durations = _durations(rows, duration_column)
    labels = {task: _labels(rows, task) for task in tasks}
    taken = {task: _predictions(predictions, task, len(rows), "predictions") for task in tasks}
    means = train_means or {}
    reports = {
        task: _task_report(task, tasks[task], labels[task], taken[task], users, durations, means.get(task))
        for task in tasks
    }
    comparison = None
    if baseline is not None:
        pairs = {
            task: TaskRows(
                tasks[task].kind, labels[task], taken[task], _predictions(baseline, task, len(rows), "baseline")
            )
            for task in tasks
        }
        comparison = compare(pairs, users, resamples=resamples, seed=seed)
    return Report(
        name=name,
        split=split,
        rows=len(rows),
        users=None if users is None else len(np.unique(users[~np.isnan(users)])),
        simulated=simulated,
        tasks=reports,
        comparison=comparison,
        costs=_costs(costs),
        experts=None if experts is None else Experts.model_validate(experts),
        conflicts=None if conflicts is None else Conflicts.model_validate(conflicts),
        history=tuple(_finite(epoch) for epoch in history),
    )


def _task_report(
    name: str,
    task: Task,
    labels: Floats,
    predictions: Floats,
    users: Floats | None,
    durations: Floats | None,
    train_mean: float | None,
) -> TaskReport:
    try:
        metrics = task_metrics(task.kind, labels, predictions, users)
    except DataError as error:
        raise DataError(f"tasks.{name}: {error}") from error
    regression = task.kind == "regression"
    return TaskReport(
        kind=task.kind,
        metrics=metrics,
        roc=roc_points(labels, predictions) if task.kind == "binary" else None,
        calibration=None if task.kind == "multiclass" else calibration_bins(labels, predictions),
        by_duration=duration_bins(labels, predictions, durations) if regression and durations is not None else None,
        constant=_constant(labels, train_mean) if regression else None,
    )


def _constant(labels: Floats, train_mean: float | None) -> Constant | None:
    present = labels[~np.isnan(labels)]
    if not len(present):
        return None
    value = float(present.mean()) if train_mean is None else train_mean
    error = rmse(present, np.full(len(present), value))
    return Constant(value=value, source="split" if train_mean is None else "train", rmse=error or 0.0)


def _labels(rows: pl.DataFrame, task: str) -> Floats:
    column = label_column(task)
    if column not in rows.columns:
        raise DataError(f"rows must have the column {column!r}. Known: {rows.columns}")
    return rows[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _predictions(predictions: Predictions, task: str, rows: int, place: str) -> Floats:
    if task not in predictions:
        raise DataError(f"{place} must hold every task. Missing: {task!r}. Known: {sorted(predictions)}")
    values = np.asarray(predictions[task], dtype=np.float64)
    if len(values) != rows:
        raise DataError(f"{place} of {task!r} must have one entry a row. Received {len(values)} for {rows} rows.")
    return values


def _users(rows: pl.DataFrame) -> Floats | None:
    """A number for each user ``(B,)``, NaN where unknown; None where there are no users."""
    if USER not in rows.columns or rows[USER].null_count() == len(rows):
        return None
    return rows[USER].rank("dense").cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _durations(rows: pl.DataFrame, feature: str | None) -> Floats | None:
    if feature is None:
        return None
    column = feature if feature in rows.columns else feature_column(feature)
    if column not in rows.columns:
        raise DataError(f"duration_column must be a feature of the rows. Received {feature!r}. Known: {rows.columns}")
    return rows[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _costs(costs: Any) -> Costs | None:
    if costs is None:
        return None
    values = asdict(costs) if is_dataclass(costs) and not isinstance(costs, type) else dict(costs)
    return Costs(**{name: values[name] for name in Costs.model_fields})


def _finite(epoch: Mapping[str, float]) -> dict[str, float | int | None]:
    """JSON has no NaN and no infinity."""
    return {key: float(value) if math.isfinite(value) else None for key, value in epoch.items()}
