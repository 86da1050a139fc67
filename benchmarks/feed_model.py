"""The model that steps are timed on: 26 categorical features × 16 and 13 numbers, bottom 256-128, towers 64-1.

Simulated data: ids of a power law, labels by chance; a step costs the same whatever it learns.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from benchmarks.peers.task import BATCH, FEATURES, NUMBERS, ZIPF
from onehull.model import MultiTaskModel, build_model
from onehull.spec.inputs import ModelInput
from onehull.spec.model import SharedBottom
from onehull.spec.tasks import BinaryTask

__all__ = ["BATCH", "FEATURES", "NUMBERS", "ZIPF", "Precision", "feed_batch", "feed_model", "trained_feed_model"]
Precision = Literal["float32", "bfloat16"]


def feed_model(tasks: int, rows: int, *, seed: int = 0, precision: Precision = "float32") -> MultiTaskModel:
    """The model, not compiled.

    Args:
        tasks: number of binary tasks.
        rows: rows of each embedding table.
        seed: of the initial values.
        precision: what the dense layers calculate in.
    """
    ids = [ModelInput(name=f"id_{index}", kind="id", rows=rows) for index in range(FEATURES)]
    inputs = [*ids, ModelInput(name="numbers", kind="dense", length=NUMBERS)]
    binary = {f"task_{index}": BinaryTask(kind="binary") for index in range(tasks)}
    return build_model(SharedBottom(), binary, inputs, seed=seed, precision=precision)


def trained_feed_model(tasks: int, rows: int, *, seed: int = 0, precision: Precision = "float32") -> MultiTaskModel:
    """The model as `onehull train` compiles it by default: Adam, and row-wise Adagrad for the tables.

    Args:
        tasks: number of binary tasks.
        rows: rows of each embedding table.
        seed: of the initial values.
        precision: what the dense layers calculate in.
    """
    model = feed_model(tasks, rows, seed=seed, precision=precision)
    loss = dict.fromkeys(model.task_names, "binary_crossentropy")
    model.compile(keras.optimizers.Adam(1e-3), embedding_optimizer="rowwise_adagrad", loss=loss, jit_compile=False)
    return model


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
