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


class Batches:
    """The batches in memory, again and again, each turn from where the last one ended.

    A step gathers one batch that was cut before, and does nothing more.

    Args:
        task: the arrays.
        keyed: turns the labels of all batches ``(N, B, T)`` into what the model's outputs are compared with.
    """

    def __init__(self, task: Task, keyed: Callable[[Any], Any]) -> None:
        x = {name: task.ids_NBF[:, :, index : index + 1] for index, name in enumerate(task.features)}
        x["numbers"] = task.numbers_NBD
        all_batches = tf.nest.map_structure(tf.constant, (x, keyed(task.labels_NBT)))
        count, self._begin = len(task.ids_NBF), tf.Variable(0, dtype=tf.int64)

        def batch(number: Any) -> Any:
            return tf.nest.map_structure(lambda values: values[(self._begin + number) % count], all_batches)

        self.data = tf.data.Dataset.counter().map(batch).prefetch(2)

    def go_on(self, steps: int) -> None:
        """What was taken of the data stays behind its beginning."""
        self._begin.assign_add(steps)


def timed_fit(model: Any, batches: Batches) -> Callable[[int], tuple[float, float]]:
    """A function that takes steps with ``fit``, and returns their seconds and the loss."""

    def run(steps: int) -> tuple[float, float]:
        watch = Stopwatch()
        history = model.fit(batches.data, steps_per_epoch=steps, epochs=1, verbose=0, callbacks=[watch])
        batches.go_on(steps)
        return watch.seconds, float(history.history["loss"][-1])

    return run
