"""What sharing saves: parameters that tasks share, own, and would need as independent models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from onehull.model.sharing import task_layers


@dataclass(frozen=True)
class ParameterCosts:
    """Numbers of parameters (trainable or not), and the bytes that they take.

    Attributes:
        total: of the model.
        shared: used by two or more tasks.
        by_task: used by one task only.
        independent: of one model a task, each with all that its task uses.
    """

    total: int
    shared: int
    by_task: dict[str, int]
    independent: int
    total_bytes: int
    independent_bytes: int

    @property
    def saving(self) -> float:
        """Share of the independent models' parameters that sharing saves."""
        return 1.0 - self.total / self.independent if self.independent else 0.0


def parameter_costs(model: keras.Model) -> ParameterCosts:
    """Counts the parameters of a functional model from its graph.

    Args:
        model: a model with one output a task.

    Raises:
        ValueError: the model has no graph, because it is subclassed.
    """
    weights = {task: _weights(layers) for task, layers in task_layers(output_tensors(model)).items()}
    users: dict[int, int] = {}
    for used in weights.values():
        for key in used:
            users[key] = users.get(key, 0) + 1
    every = {key: weight for used in weights.values() for key, weight in used.items()}
    return ParameterCosts(
        total=_count(every.values()),
        shared=_count(weight for key, weight in every.items() if users[key] > 1),
        by_task={
            task: _count(weight for key, weight in used.items() if users[key] == 1) for task, used in weights.items()
        },
        independent=sum(_count(used.values()) for used in weights.values()),
        total_bytes=_bytes(every.values()),
        independent_bytes=sum(_bytes(used.values()) for used in weights.values()),
    )


def output_tensors(model: keras.Model) -> dict[str, Any]:
    """The symbolic output of each task; the keys are the task names.

    Raises:
        ValueError: the model has no graph, because it is subclassed.
    """
    try:
        output = model.output
    except AttributeError:
        output = None
    if output is None:
        remedy = "Build it as keras does: MultiTaskModel(inputs=..., outputs={'task': ...})."
        raise ValueError(f"{type(model).__name__} must be a functional model, with a graph. {remedy}")
    if isinstance(output, Mapping):
        return dict(output)
    return dict(zip(model.output_names, keras.tree.flatten(output), strict=True))


def costs_lines(costs: ParameterCosts) -> list[str]:
    """The counts as lines of text for a summary."""
    own = ", ".join(f"{task} {count:,}" for task, count in costs.by_task.items())
    return [
        f" Shared by two or more tasks: {costs.shared:,}",
        f" Of one task only: {own}",
        f" As {len(costs.by_task)} independent models: {costs.independent:,} "
        f"({_size(costs.independent_bytes)}); this model: {costs.total:,} ({_size(costs.total_bytes)}), "
        f"{costs.saving:.1%} less",
    ]


def _weights(layers: Iterable[Any]) -> dict[int, Any]:
    return {id(weight): weight for layer in layers for weight in getattr(layer, "weights", ())}


def _count(weights: Iterable[Any]) -> int:
    return sum(_elements(weight) for weight in weights)


def _bytes(weights: Iterable[Any]) -> int:
    return sum(_elements(weight) * int(tf.as_dtype(weight.dtype).size) for weight in weights)


def _elements(weight: Any) -> int:
    return math.prod(weight.shape)


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count = count / 1024
    return f"{count:.1f} GB"
