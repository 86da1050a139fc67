"""Times the steps inside a Keras ``fit``, for Keras 2 and 3."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from benchmarks.peers.task import Task


class Stopwatch(tf.keras.callbacks.Callback):
    """From the start of the first step to the end of the last: what ``fit`` does around them is not counted."""

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002  as Keras calls it
        """Starts with the first step."""
        if batch == 0:
            self.start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002  as Keras calls it
        """Is right at the last step."""
        self.seconds = time.perf_counter() - self.start


def batches(task: Task, keyed: Callable[[Any], Any]) -> tf.data.Dataset:
    """The batches in memory, again and again: made once, so that a step slices and does nothing more.

    Args:
        task: the arrays.
        keyed: turns the labels of a batch ``(B, T)`` into what the model's outputs are compared with.
    """
    x = {name: task.ids_NBF[:, :, index : index + 1] for index, name in enumerate(task.features)}
    x["numbers"] = task.numbers_NBD
    data = tf.data.Dataset.from_tensor_slices((x, keyed(task.labels_NBT)))
    return data.repeat().prefetch(2)


def timed_fit(model: Any, data: tf.data.Dataset) -> Callable[[int], tuple[float, float]]:
    """A function that takes steps with ``fit``, and returns their seconds and the loss."""

    def run(steps: int) -> tuple[float, float]:
        watch = Stopwatch()
        history = model.fit(data, steps_per_epoch=steps, epochs=1, verbose=0, callbacks=[watch])
        return watch.seconds, float(history.history["loss"][-1])

    return run
