"""The time of a training's step, on a model of the same shape with smaller tables: the training's own is not touched.

Shapes: ``B`` batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from onehull.model import MultiTaskModel
from onehull.spec.inputs import ModelInput
from onehull.spec.tasks import BinaryTask, MulticlassTask, Task
from onehull.train.steps import Steps

_TABLE_BYTES = 64 << 20
"""Tables of the twin in all: enough that one which is copied at each step shows, and made in a moment."""
_FEWEST_ROWS = 1000
_WARM_UP, _MOST_STEPS, _SECONDS = 2, 20, 1.0


def twin_inputs(inputs: Sequence[ModelInput], dim: int) -> list[ModelInput]:
    """The same inputs with tables of 64 MiB at most in all; the time of a step does not depend on further rows.

    Args:
        inputs: the encoded inputs.
        dim: width of the embeddings whose input does not say.
    """
    whole = sum(4 * item.rows * (item.dim or dim) for item in inputs if item.kind != "dense")
    share = min(1.0, _TABLE_BYTES / max(1, whole))
    rows = [min(item.rows, max(_FEWEST_ROWS, math.ceil(share * item.rows))) for item in inputs]
    return [item.model_copy(update={"rows": count}) for item, count in zip(inputs, rows, strict=True)]


def drawn_batch(
    inputs: Sequence[ModelInput], tasks: Mapping[str, Task], batch_size: int, seed: int = 0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A batch of drawn values: ids of a power law, as real ones are, and labels for every row.

    Args:
        inputs: the encoded inputs.
        tasks: what is predicted.
        batch_size: rows ``B``.
        seed: of the draws.

    Returns:
        Inputs as in `ModelInput`, and labels ``(B,)`` by task, as the records give them.
    """
    random = np.random.default_rng(seed)

    def values(item: ModelInput) -> np.ndarray:
        shape = (batch_size, *item.shape)
        if item.kind == "dense":
            return random.normal(size=shape).astype(np.float32)
        return (item.rows ** random.uniform(size=shape) - 1).clip(0, item.rows - 1).astype(np.int32)

    def labels(task: Task) -> np.ndarray:
        match task:
            case BinaryTask():
                drawn: np.ndarray = random.uniform(size=batch_size) < 0.3
            case MulticlassTask():
                drawn = random.integers(0, task.classes, batch_size)
            case _:
                drawn = random.exponential(size=batch_size)
        return drawn.astype(np.float32)

    return {item.name: values(item) for item in inputs}, {name: labels(task) for name, task in tasks.items()}


def step_seconds(model: MultiTaskModel, batch: Any) -> float:
    """Shortest time of a step, after those in which it is traced: what other processes take of the machine only adds.

    Args:
        model: a compiled model, which is trained by it.
        batch: ``(inputs, labels)``, for all replicas together.
    """
    steps = Steps(model)
    iterator = steps.iterate(
        lambda replica, replicas: tf.data.Dataset.from_tensors(_part(batch, replica, replicas)).repeat()
    )
    steps(iterator, _WARM_UP)
    found: list[float] = []
    while len(found) < _MOST_STEPS and sum(found) < _SECONDS:
        begun = time.perf_counter()
        steps(iterator, 1)
        found.append(time.perf_counter() - begun)
    return min(found)


def _part(batch: Any, replica: int, replicas: int) -> Any:
    return tf.nest.map_structure(lambda values: values[replica::replicas], batch)
