"""DeepCTR: its SharedBottom, trained by the Keras ``fit`` that it works with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from deepctr.feature_column import DenseFeat, SparseFeat  # type: ignore[import-not-found]
from deepctr.models import SharedBottom  # type: ignore[import-not-found]

from benchmarks.peers.conversation import Contestant, answer
from benchmarks.peers.fit_timer import Batches, timed_fit
from benchmarks.peers.task import BOTTOM, DIM, LEARNING_RATE, TOWER, Task


def without_regularizers(model: Any) -> None:
    """Takes the regularizers off: DeepCTR puts one on every table, which reads the whole table even at strength 0."""
    for layer in model.layers:
        for variable in layer.trainable_variables:
            variable.regularizer = None


def build(task: Task, first: Mapping[str, Any]) -> Contestant:
    """Adam; without XLA, which is slower here."""
    tf.config.threading.set_intra_op_parallelism_threads(first["threads"])
    columns = [SparseFeat(name, task.rows, DIM) for name in task.features]
    model = SharedBottom(
        [*columns, DenseFeat("numbers", task.numbers)],
        bottom_dnn_hidden_units=BOTTOM,
        tower_dnn_hidden_units=(TOWER,),
        **({"l2_reg_embedding": 0} if first["tuned"] else {}),
        task_types=["binary"] * len(task.tasks),
        task_names=task.tasks,
    )
    if first["tuned"]:
        without_regularizers(model)
    losses = ["binary_crossentropy"] * len(task.tasks)
    model.compile(tf.keras.optimizers.Adam(LEARNING_RATE), loss=losses, jit_compile=False)
    data = Batches(task, lambda labels_NBT: tuple(labels_NBT[:, :, i : i + 1] for i in range(len(task.tasks))))
    tuning = "no regularizers" if first["tuned"] else "as it comes"
    settings = f"fit, float32, no XLA, {tuning}, batches made before"
    return Contestant(timed_fit(model, data), settings, ("deepctr", "tensorflow", "keras"))


if __name__ == "__main__":
    answer(build)
