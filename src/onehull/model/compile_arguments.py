"""What Keras users write in `compile`, by task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from onehull.model.objective import by_task
from onehull.model.task_metrics import TaskMetrics


def losses_by_task(loss: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The loss of each output that has one; one loss for all where only one is given."""
    given = by_task(loss, names, "loss") if isinstance(loss, (Mapping, list, tuple)) else dict.fromkeys(names, loss)
    return {task: value for task, value in given.items() if value is not None}


def weights_by_task(loss_weights: Any, names: tuple[str, ...]) -> dict[str, float]:
    """The static weight of each task that is given one.

    Raises:
        ValueError: a weight is negative, infinite or not a number.
    """
    weights = by_task(loss_weights, names, "loss_weights") if loss_weights is not None else {}
    for task, weight in weights.items():
        if not 0 <= float(weight) < math.inf:
            rule = "must be a finite number of at least 0; a task with weight 0 is measured and not learned"
            raise ValueError(f"loss_weights[{task!r}] {rule}. Received {weight!r}.")
    return weights


def row_weights_by_task(sample_weight: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The sample weights of each task; one array holds for all tasks."""
    if isinstance(sample_weight, (Mapping, list, tuple)):
        return by_task(sample_weight, names, "sample_weight")
    return dict.fromkeys(names, sample_weight)


def sentinels_by_task(missing: Any, names: tuple[str, ...]) -> dict[str, float | None]:
    """The value of each task that stands for a missing label; None for NaN only."""
    if isinstance(missing, Mapping):
        return {name: by_task(missing, names, "missing").get(name) for name in names}
    return dict.fromkeys(names, missing)


def task_metrics(
    metrics: Any, weighted: Any, names: tuple[str, ...], sentinels: Mapping[str, float | None]
) -> TaskMetrics | None:
    """The compiled metrics; None where there are none."""
    if metrics is None and weighted is None:
        return None
    plain, with_weights = (_metric_lists(group, names) for group in (metrics, weighted))
    return TaskMetrics(plain, with_weights, sentinels, prefixed=len(names) > 1)


def _metric_lists(metrics: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if metrics is None:
        return {}
    if len(names) == 1 and not isinstance(metrics, Mapping):
        return {names[0]: metrics}
    return by_task(metrics, names, "metrics")
