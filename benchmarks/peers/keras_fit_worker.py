"""Keras: the model in Keras' own layers, trained by ``fit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from benchmarks.peers.conversation import Contestant, answer
from benchmarks.peers.fit_timer import Batches, timed_fit
from benchmarks.peers.task import BOTTOM, DIM, LEARNING_RATE, TOWER, Task


def functional(task: Task) -> keras.Model:
    """The model, as Keras' own examples write it."""
    inputs = {name: keras.Input((1,), name=name, dtype="int32") for name in task.features}
    vectors = [
        keras.layers.Flatten()(keras.layers.Embedding(task.rows, DIM, name=f"table_{name}")(one))
        for name, one in inputs.items()
    ]
    inputs["numbers"] = keras.Input((task.numbers,), name="numbers")
    hidden = keras.layers.Concatenate()([*vectors, inputs["numbers"]])
    for units in BOTTOM:
        hidden = keras.layers.Dense(units, "relu")(hidden)
    outputs = {}
    for name in task.tasks:
        tower = keras.layers.Dense(TOWER, "relu")(hidden)
        outputs[name] = keras.layers.Dense(1, "sigmoid", dtype="float32", name=name)(tower)
    return keras.Model(inputs, outputs)


def build(task: Task, first: Mapping[str, Any]) -> Contestant:
    """Adam; without XLA, which is slower here."""
    tf.config.threading.set_intra_op_parallelism_threads(first["threads"])
    policy = first["policy"]
    keras.config.set_dtype_policy(policy)
    model = functional(task)
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        loss=dict.fromkeys(task.tasks, "binary_crossentropy"),
        jit_compile=False,
    )
    data = Batches(task, lambda labels_NBT: {name: labels_NBT[:, :, i : i + 1] for i, name in enumerate(task.tasks)})
    settings = f"fit, {policy}, no XLA, batches made before"
    return Contestant(timed_fit(model, data), settings, ("keras", "tensorflow"))


if __name__ == "__main__":
    answer(build)
