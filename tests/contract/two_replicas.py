"""Trains small models on one replica and on two, and prints as JSON how far apart they end.

TensorFlow takes two devices out of one processor only before it has started, so this is a program of its own:
``python -m tests.contract.two_replicas '{"name": {"compile": {…}, "model": {…}, "data": {…}}}'``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from onehull.balance import get_balancer
from onehull.model import build_model
from onehull.optimizers import RowwiseAdagrad
from onehull.spec.inputs import ModelInput
from onehull.spec.model import SharedBottom
from onehull.spec.tasks import BinaryTask
from onehull.train.steps import Steps

BATCH = 16
INPUTS = (
    ModelInput(name="user", kind="id", rows=12, dim=4),
    ModelInput(name="tags", kind="ids", rows=6, length=3, dim=4),
    ModelInput(name="age", kind="dense", length=2),
)
TASKS = {name: BinaryTask(kind="binary") for name in ("click", "like", "share")}


def rows(count: int, *, bad: bool) -> Any:
    """Labels that are missing unevenly: of `share`, replica 1 has none in the first batch, and nobody in the second."""
    rng = np.random.default_rng(0)
    x = {
        "user": rng.integers(0, 12, count).astype("int32"),
        "tags": rng.integers(0, 6, (count, 3)).astype("int32"),
        "age": rng.normal(size=(count, 2)).astype("float32"),
    }
    y = {name: (x["age"][:, 0] + rng.normal(size=count) > 0).astype("float32") for name in TASKS}
    y["like"][rng.random(count) < 0.4] = np.nan
    y["share"][1 : 2 * BATCH : 2] = np.nan
    y["share"][BATCH : 2 * BATCH] = np.nan
    if bad:
        x["age"][BATCH + 3] = np.nan  # in the second batch, on the second replica
    return x, y


def batches(part: Any, replica: int, every: int) -> tf.data.Dataset:
    """This replica's rows of each batch."""
    signature = tf.nest.map_structure(lambda a: tf.TensorSpec((None, *a.shape[1:]), a.dtype), part)
    count = len(part[0]["user"])

    def parts() -> Any:
        for start in range(0, count, BATCH):
            mine = slice(start + replica, min(start + BATCH, count), every)
            yield tf.nest.map_structure(lambda a, mine=mine: a[mine], part)

    return tf.data.Dataset.from_generator(parts, output_signature=signature)


def trained(strategy: tf.distribute.Strategy, case: dict[str, Any]) -> tuple[dict[str, np.ndarray], int]:
    """What a training leaves behind, by name, and how often its step was traced."""
    keras.utils.clear_session()  # so that both give the same names to their variables
    keras.utils.set_random_seed(0)
    options = dict(case.get("compile", {}))
    if "balancer" in options:
        options["balancer"] = get_balancer(options["balancer"])
    section = {"bottom": (6,), "tower": (4,), "embedding_stddev": 0.1, **case.get("model", {})}
    data = {"batches": 5, "last": BATCH, "bad": False, **case.get("data", {})}
    part = rows((data["batches"] - 1) * BATCH + data["last"], bad=data["bad"])
    with strategy.scope():
        model = build_model(SharedBottom.model_validate(section), TASKS, INPUTS, seed=1)
        loss, optimizer = "binary_crossentropy", keras.optimizers.SGD(0.1, momentum=0.5)
        rows_optimizer = RowwiseAdagrad(0.05)
        model.compile(optimizer=optimizer, embedding_optimizer=rows_optimizer, loss=loss, **options)
        steps = Steps(model)
    before = [np.array(variable.value) for variable in model.trainable_variables]
    steps(steps.iterate(lambda replica, every: batches(part, replica, every)), data["batches"])
    left = {variable.path: np.asarray(variable) for variable in model.variables}
    left |= {f"optimizer/{variable.path}": np.asarray(variable) for variable in model.optimizer.variables}
    left |= {f"rows/{variable.path}": np.asarray(variable) for variable in rows_optimizer.variables}
    left |= {f"state/{name}": np.asarray(variable) for name, variable in model.training_state.items()}
    left |= {f"log/{name}": np.asarray(value) for name, value in model.get_metrics_result().items()}
    distances = [np.abs(v - b).max() for v, b in zip(model.trainable_variables, before, strict=True)]
    left["moved"] = np.array(np.nan_to_num(distances, nan=1.0).max())
    if model.conflicts is not None:
        left["conflicts"] = model.conflicts.matrix()
    return left, steps.traces


def compared(case: dict[str, Any]) -> dict[str, Any]:
    """The largest difference, where it is, and what else is worth a look; or how two replicas were refused."""
    if case.get("refused"):
        try:
            trained(_MIRRORED, case)
        except ValueError as error:
            return {"error": str(error)}
    begun = time.monotonic()
    (one, _), (two, traces) = trained(tf.distribute.get_strategy(), case), trained(_MIRRORED, case)
    apart = {name: _apart(one[name], two[name]) for name in one if one[name].dtype.kind in "fiu"}
    where = max(apart, key=apart.__getitem__)
    finite = all(np.isfinite(value).all() for value in one.values() if value.dtype.kind == "f")
    return {"difference": apart[where], "where": where, "same_names": sorted(one) == sorted(two), "traces": traces,
            "finite": finite, "moved": one["moved"].item(), "seconds": time.monotonic() - begun}  # fmt: skip


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    if not first.size or first.shape != second.shape:
        return 0.0 if first.shape == second.shape else float("inf")
    if not (np.isfinite(first) == np.isfinite(second)).all():
        return float("inf")
    difference = np.abs(first.astype(np.float64) - second) / np.maximum(1.0, np.abs(first))
    return float(np.nanmax(difference, initial=0.0))


if __name__ == "__main__":
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    _MIRRORED = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    sys.stdout.write(json.dumps({name: compared(case) for name, case in json.loads(sys.argv[1]).items()}))
