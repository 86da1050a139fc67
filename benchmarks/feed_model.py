"""The model that steps are timed on: 26 categorical features × 16 and 13 numbers, bottom 256-128, towers 64-1.

Simulated data: ids of a power law, labels by chance; a step costs the same whatever it learns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from onehull.model import MultiTaskModel, build_model
from onehull.spec.inputs import ModelInput
from onehull.spec.model import SharedBottom
from onehull.spec.tasks import BinaryTask

FEATURES, NUMBERS, BATCH, ZIPF = 26, 13, 4096, 1.2


def feed_model(tasks: int, rows: int) -> MultiTaskModel:
    """The model, not compiled.

    Args:
        tasks: number of binary tasks.
        rows: rows of each embedding table.
    """
    ids = [ModelInput(name=f"id_{index}", kind="id", rows=rows) for index in range(FEATURES)]
    inputs = [*ids, ModelInput(name="numbers", kind="dense", length=NUMBERS)]
    return build_model(SharedBottom(), {f"task_{index}": BinaryTask(kind="binary") for index in range(tasks)}, inputs)


def feed_batch(tasks: int, rows: int, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """One batch of inputs and labels in memory.

    Args:
        tasks: number of binary tasks.
        rows: rows of each embedding table.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    x: dict[str, Any] = {
        f"id_{index}": tf.constant(np.minimum(generator.zipf(ZIPF, BATCH), rows) - 1, tf.int32)
        for index in range(FEATURES)
    }
    x["numbers"] = tf.constant(generator.normal(size=(BATCH, NUMBERS)), tf.float32)
    y = {f"task_{index}": tf.constant(generator.random((BATCH, 1)) < 0.3, tf.float32) for index in range(tasks)}
    return x, y
