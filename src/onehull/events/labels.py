"""From a task's raw value to its label: the sentinel for missing, the scale, the sample space of another task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from onehull.spec.samples import label_column
from onehull.spec.tasks import RegressionTask, Task


def finish_labels(rows: pl.LazyFrame, tasks: Mapping[str, Task]) -> pl.LazyFrame:
    """Turns raw values in the label columns into labels.

    A sentinel becomes null, a scale is applied, and where a task lives on the sample space of another task
    (``observed_when``), its label is null wherever that task's label is not 1.

    Args:
        rows: with one Float64 column ``y.NAME`` a task.
        tasks: all tasks.
    """
    rows = rows.with_columns(_own_label(name, task) for name, task in tasks.items())
    for name, parent in _spaces(tasks):
        label = pl.col(label_column(name))
        rows = rows.with_columns(pl.when(pl.col(label_column(parent)) == 1).then(label).alias(label_column(name)))
    return rows


def _own_label(name: str, task: Task) -> pl.Expr:
    label = pl.col(label_column(name))
    if task.missing is not None:
        label = pl.when(label != task.missing).then(label)
    if isinstance(task, RegressionTask):
        label = label * task.scale
    return label.alias(label_column(name))


def _spaces(tasks: Mapping[str, Task]) -> Iterator[tuple[str, str]]:
    """Pairs (task, parent), every parent's own pair first: a missing parent makes its children missing."""
    done: set[str] = set()

    def visit(name: str) -> Iterator[tuple[str, str]]:
        parent = tasks[name].observed_when
        if name in done:
            return
        done.add(name)
        if parent is not None:
            yield from visit(parent)
            yield name, parent

    for name in tasks:
        yield from visit(name)
