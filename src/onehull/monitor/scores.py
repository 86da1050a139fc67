"""From the spec's features and tasks to what is compared: views of a feature, targets of a task, and their figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from onehull.monitor import association
from onehull.monitor.values import Floats, Ids, Ints, Mask, Numbers, coordinates, id_column, number_column, numbers
from onehull.spec.features import Feature, NumericFeature, VectorFeature
from onehull.spec.samples import label_column
from onehull.spec.tasks import MulticlassTask, RegressionTask, Task

_LABEL_BINS = 16
_MOST_CLASSES = 16
"""Classes of a multi-class task that are looked at, the most frequent ones first."""
_CERTAIN = 4.0
"""A difference between two missing rates counts beyond that many standard errors."""

Figures = dict[str, float | None]


@dataclass(frozen=True)
class View:
    """A feature, or one coordinate of a vector, on some of the rows."""

    values: Numbers | Ids
    rows: slice


@dataclass(frozen=True)
class Target:
    """What is to be told: a class against the others, or a number. ``N`` rows.

    Attributes:
        task: its task.
        label_N: 0 and 1, or the label of a regression; NaN is missing.
        positive_N: rows of the class, or of the upper half.
        known_N: rows with a label.
        number: the label as a number, for a regression.
    """

    task: str
    label_N: Floats
    positive_N: Mask
    known_N: Mask
    number: Numbers | None = None

    def part(self, rows: slice) -> Target:
        """The target on some of the rows."""
        number = None if self.number is None else Numbers(self.number.code_N[rows], self.number.values)
        return Target(self.task, self.label_N[rows], self.positive_N[rows], self.known_N[rows], number)


def targets(name: str, task: Task, rows: pl.DataFrame, fewest: int) -> list[Target]:
    """What a task asks for; empty where too few rows have a label, or all have the same.

    Args:
        name: of the task.
        task: the task.
        rows: a samples table.
        fewest: rows that a class (or half) must have, and those beside it.
    """
    label_N = rows[label_column(name)].fill_null(float("nan")).to_numpy()
    known_N = ~np.isnan(label_N)
    if isinstance(task, RegressionTask):
        middle = float(np.median(label_N[known_N])) if known_N.any() else 0.0
        number = numbers(label_N)
        found = [Target(name, number.code_N.astype(np.float64), label_N > middle, known_N, number)]
        found[0].label_N[~known_N] = np.nan
    else:
        wanted = [1.0]
        if isinstance(task, MulticlassTask):
            classes, count = np.unique(label_N[known_N], return_counts=True)
            wanted = [float(classes[place]) for place in np.argsort(-count, kind="stable")[:_MOST_CLASSES]]
        found = [
            Target(name, np.where(known_N, label_N == value, np.nan), label_N == value, known_N) for value in wanted
        ]
    return [target for target in found if _enough(target.positive_N, target.known_N, fewest)]


def feature_views(feature: Feature, column: pl.Series) -> Iterator[View]:
    """What of a feature is compared with a label."""
    if isinstance(feature, NumericFeature):
        yield View(number_column(column), slice(None))
    elif isinstance(feature, VectorFeature):
        for coordinate, rows in coordinates(column, feature.size):
            yield View(numbers(coordinate), rows)
    else:
        yield View(id_column(column), slice(None))


def score(view: View, target: Target, fold_N: Ints, fewest: int) -> Figures:
    """The figures of one view and one target; see `FeatureScore`.

    Args:
        view: a feature.
        target: what is to be told.
        fold_N: fold of each row.
        fewest: rows that a class must have among those with a value, and those beside it.
    """
    target = target.part(view.rows)
    values = view.values
    if isinstance(values, Numbers):
        scores = association.number_scores(values)
    else:
        scores = association.id_scores(values, target.label_N, fold_N[view.rows])
    figures: Figures = {"auc": None, "correlation": None, "information": None}
    if _enough(target.positive_N, target.known_N & scores.known, fewest):
        if target.number is None:
            figures["auc"] = association.auc(scores, target.positive_N, target.known_N)
        else:
            figures["correlation"] = association.rank_correlation(scores, target.number)
    class_N = target.positive_N.astype(np.int64)
    if target.number is not None:
        class_N = association.bins_of(target.number, _LABEL_BINS)
    figures["information"] = association.information(scores, class_N, target.known_N)
    low, high = _missing_rates(values.missing, target)
    return {**figures, "missing_low": low, "missing_high": high}


def strongest(found: Sequence[Figures]) -> Figures:
    """Of several targets or coordinates: the largest of each figure, and the pair of missing rates furthest apart."""
    figures: Figures = {}
    for key in ("auc", "correlation", "information"):
        figures[key] = max((value for one in found if (value := one[key]) is not None), default=None)
    widest = max(found, key=lambda one: (one["missing_high"] or 0.0) - (one["missing_low"] or 0.0))
    return {**figures, "missing_low": widest["missing_low"], "missing_high": widest["missing_high"]}


def _missing_rates(missing_N: Mask, target: Target) -> tuple[float, float]:
    """The lower and the higher missing rate of the two classes; equal where the difference may be chance."""
    parts = (target.known_N & target.positive_N, target.known_N & ~target.positive_N)
    rows = [int(part.sum()) for part in parts]
    rates = [float(missing_N[part].mean()) for part in parts]
    overall = float(missing_N[target.known_N].mean())
    error = np.sqrt(overall * (1 - overall) * (1 / rows[0] + 1 / rows[1]))
    if abs(rates[0] - rates[1]) <= _CERTAIN * error:
        return overall, overall
    return min(rates), max(rates)


def _enough(positive_N: Mask, known_N: Mask, fewest: int) -> bool:
    positive = int((positive_N & known_N).sum())
    return min(positive, int(known_N.sum()) - positive) >= fewest
