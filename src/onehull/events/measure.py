"""Looks at a finished samples table: counts for the report, and values that no task can learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from onehull.errors import DataError
from onehull.events.report import TaskLabels
from onehull.spec.features import Feature, VectorFeature
from onehull.spec.samples import ITEM, REPEATS, SAMPLE, SPLIT, SPLITS, TIME, USER, feature_column, label_column
from onehull.spec.tasks import BinaryTask, MulticlassTask, RegressionTask, Task


def measure(samples: Path, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Counts of a samples table, as fields of `AssemblyReport`."""
    frame = pl.scan_parquet(samples)
    columns = [pl.len().alias("rows"), pl.col(TIME).min().alias("first"), pl.col(TIME).max().alias("last")]
    columns += [pl.col(key).n_unique() - pl.col(key).null_count().clip(0, 1) for key in (USER, ITEM)]
    columns += [(pl.col(SPLIT) == name).sum().alias(name) for name in SPLITS]
    for name in tasks:
        label = pl.col(label_column(name))
        columns += [
            label.count().alias(f"{name}/known"),
            (label > 0).sum().alias(f"{name}/positive"),
            label.mean().alias(f"{name}/mean"),
        ]
    has_repeats = REPEATS in frame.collect_schema()
    columns.append((pl.col(REPEATS).count() if has_repeats else pl.lit(0)).alias(REPEATS))
    row = frame.select(columns).collect(engine="streaming").row(0, named=True)
    return {
        "rows": row["rows"],
        "repeated": row[REPEATS],
        "splits": {name: row[name] for name in SPLITS},
        "tasks": {name: _task_labels(task, row, name) for name, task in tasks.items()},
        "time_first": row["first"],
        "time_last": row["last"],
        "users": row[USER],
        "items": row[ITEM],
    }


def check_samples(samples: Path, tasks: Mapping[str, Task], features: Mapping[str, Feature], *, timed: bool) -> None:
    """Finds values that are not as the spec declares them.

    Args:
        samples: a samples table.
        tasks: all tasks.
        features: all features.
        timed: every row needs a time.

    Raises:
        DataError: with every broken rule, how many rows break it, and one of the values.
    """
    rules = [*_label_rules(tasks), *_vector_rules(features)]
    if timed:
        rules.append(
            (
                "data.time",
                "must hold a readable time in every row (the split goes by time)",
                SAMPLE,
                pl.col(TIME).is_null(),
            )
        )
    if not rules:
        return
    columns = []
    for number, (_, _, column, broken) in enumerate(rules):
        columns.append(broken.sum().alias(f"{number}/count"))
        columns.append(pl.col(column).filter(broken).first().alias(f"{number}/value"))
        columns.append(pl.col(SAMPLE).filter(broken).first().alias(f"{number}/sample"))
    found = pl.scan_parquet(samples).select(columns).collect(engine="streaming").row(0, named=True)
    faults = [
        f"{place} {rule}. {found[f'{number}/count']} rows do not, the first is sample {found[f'{number}/sample']}: "
        f"received {found[f'{number}/value']!r}."
        for number, (place, rule, _, _) in enumerate(rules)
        if found[f"{number}/count"]
    ]
    if faults:
        raise DataError("\n".join(faults))


def notes(tasks: Mapping[str, TaskLabels], kinds: Mapping[str, str], simulated: str | None) -> Iterator[str]:
    """Remarks on labels that nothing can be learned from."""
    for name, labels in tasks.items():
        if labels.known == 0:
            yield f"task {name} has no label"
        elif kinds[name] == "binary" and labels.positive in {0, labels.known}:
            only = "0" if labels.positive == 0 else "1"
            yield f"task {name} has only labels that are {only}"
    if simulated is not None:
        yield "the input is simulated"


def _task_labels(task: Task, row: Mapping[str, Any], name: str) -> TaskLabels:
    known = row[f"{name}/known"]
    positive = None if isinstance(task, MulticlassTask) else row[f"{name}/positive"]
    return TaskLabels(known=known, missing=row["rows"] - known, positive=positive, mean=row[f"{name}/mean"])


Rule = tuple[str, str, str, pl.Expr]
"""Place, rule, column to show, and where the rule is broken."""


def _label_rules(tasks: Mapping[str, Task]) -> Iterator[Rule]:
    for name, task in tasks.items():
        column = label_column(name)
        label, place = pl.col(column), f"tasks.{name}: column {task.label or task.event!r}"
        hint = f"If a value stands for a missing label, name it in tasks.{name}.missing"
        if isinstance(task, BinaryTask):
            yield place, f"must hold 0, 1 or nothing. {hint}", column, ~label.is_in([0.0, 1.0])
        elif isinstance(task, MulticlassTask):
            usable = (label == label.floor()) & (label >= 0) & (label < task.classes)
            yield place, f"must hold classes from 0 to {task.classes - 1}. {hint}", column, ~usable
        elif isinstance(task, RegressionTask):
            yield place, f"must hold finite numbers. {hint}", column, label.is_infinite()


def _vector_rules(features: Mapping[str, Feature]) -> Iterator[Rule]:
    for name, feature in features.items():
        if isinstance(feature, VectorFeature):
            column = feature_column(name)
            rule = f"must hold vectors of {feature.size} numbers"
            yield f"features.{name}", rule, column, pl.col(column).list.len() != feature.size
