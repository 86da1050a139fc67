"""OneHull: the shared bottom of `benchmarks.feed_model`, trained by the compiled steps of `onehull train`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tensorflow as tf

from benchmarks.feed_model import trained_feed_model
from benchmarks.peers.conversation import Contestant, answer
from benchmarks.peers.task import Task
from onehull.spec.training import Training
from onehull.train.precision import Candidate, Choice, candidates, choose, has_bfloat16
from onehull.train.probe import step_seconds
from onehull.train.steps import Steps
from onehull.train.workers import joined_workers

PROBED_ROWS = 10_000
"""Rows of each table of the model that ``auto`` is measured with."""


def build(task: Task, first: Mapping[str, Any]) -> Contestant:
    """Adam for the dense part, row-wise Adagrad for the tables.

    A first line with ``cluster``, the addresses of several workers, and ``index`` makes this one of them; with ``core``
    it keeps to that core.
    """
    if "core" in first:
        os.sched_setaffinity(0, [first["core"]])
    tf.config.threading.set_intra_op_parallelism_threads(first["threads"])
    stack = ExitStack()
    if "cluster" in first:
        cluster = {"cluster": {"worker": first["cluster"]}, "task": {"type": "worker", "index": first["index"]}}
        os.environ["TF_CONFIG"] = json.dumps(cluster)
    strategy = stack.enter_context(joined_workers())
    asked = first["precision"]
    choice = automatic(task) if asked == "auto" else Choice(asked, False, "as asked")
    with strategy.scope():
        model = trained_feed_model(len(task.tasks), task.rows, precision=choice.precision)
    train = Steps(model)
    iterator = train.iterate(lambda replica, replicas: batches(task, replica, replicas).repeat().prefetch(2))

    def run(steps: int) -> tuple[float, float]:
        model.reset_metrics()
        start = time.perf_counter()
        train(iterator, steps)
        seconds = time.perf_counter() - start
        return seconds, float(model.get_metrics_result()["loss"])

    settings = f"sparse row-wise Adagrad, {choice.text()}"
    return Contestant(run, settings, ("onehull", "tensorflow", "keras"), stack.close)


def automatic(task: Task) -> Choice:
    """What training chooses by itself for this shape on this machine, measured now."""

    def time_step(candidate: Candidate) -> float:
        rows = min(task.rows, PROBED_ROWS)
        model = trained_feed_model(len(task.tasks), rows, precision=candidate.precision)
        x, y = next(iter(batches(task)))
        x = {name: value if name == "numbers" else value % rows for name, value in x.items()}
        return step_seconds(model, (x, y))

    with TemporaryDirectory() as folder:
        allowed = candidates(Training(), bfloat16=has_bfloat16(), xla=False)
        out_dir = Path(folder)
        return choose(allowed, time_step, shape={}, steps=100_000, out_dir=out_dir, measured=out_dir / "measured.json")


def batches(task: Task, replica: int = 0, replicas: int = 1) -> tf.data.Dataset:
    """A replica's rows of the batches in memory, once."""
    mine = slice(replica, None, replicas)
    x = {name: task.ids_NBF[:, mine, index] for index, name in enumerate(task.features)}
    x["numbers"] = task.numbers_NBD[:, mine]
    y = {name: task.labels_NBT[:, mine, index : index + 1] for index, name in enumerate(task.tasks)}
    return tf.data.Dataset.from_tensor_slices((x, y))


if __name__ == "__main__":
    answer(build)
