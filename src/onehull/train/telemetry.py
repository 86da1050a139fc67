"""What training takes: rows a second, the share of time that it waits for input, and the peak of memory.

Waiting is measured inside of the compiled loop: a step can begin when the step before is done and its batch has
arrived, so what lies between these two moments is waiting. Both are stamped in the graph, and nothing comes back to
Python at a step. It holds where the loop fetches batches ahead, too: one that arrives while the step before still
runs costs nothing. A stamp costs 2 µs, or 25 µs where operations are deterministic.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config  # there is no public way to ask for determinism


class Clock(NamedTuple):
    """The state of a compiled loop that is timed; float64 scalars, so that it can be a loop variable.

    Attributes:
        ready: when the last step was done, in seconds since 1970.
        waited: seconds spent waiting for input so far.
    """

    ready: tf.Tensor
    waited: tf.Tensor


def start_clock() -> Clock:
    """A clock that begins now: time in which nobody asks for a batch, as in validation, is not waiting."""
    return Clock(_now(), tf.zeros((), tf.float64))


def timed_step(step: Callable[[Any], Any], next_batch: Callable[[], Any], clock: Clock) -> Clock:
    """One step of a compiled loop with the clock running; call it while a `tf.function` is traced.

    Args:
        step: takes in a batch.
        next_batch: gives it, such as ``iterator.get_next``; may give one for each replica of a strategy.
        clock: before the step.

    Returns:
        The clock after the step.
    """
    batch = next_batch()
    with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
        arrived = _now()
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    step(batch)
    # What a function returns may be there before its variables are written; a step is done when nothing is left to do.
    with tf.control_dependencies(_last(graph.get_operations()[before:])):
        ready = _now()
    return Clock(ready, clock.waited + tf.maximum(arrived - clock.ready, 0.0))


@dataclass(frozen=True)
class Telemetry:
    """What a stretch of training took: an epoch, or a part of it.

    Attributes:
        rows: taken in, over all replicas.
        seconds: of training, without validation.
        waiting_seconds: in which the step before was done and the next batch had not arrived; of this process.
        peak_bytes: peak of memory by device; ``host`` is resident memory since the process began, ``GPU:0`` what
            TensorFlow had allocated there at once.
    """

    rows: int = 0
    seconds: float = 0.0
    waiting_seconds: float = 0.0
    peak_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def rows_per_second(self) -> float:
        """Rows a second; 0 before the first."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def waiting_share(self) -> float:
        """Share of the time spent waiting for input; 0 before the first step."""
        return min(1.0, self.waiting_seconds / self.seconds) if self.seconds else 0.0

    def __add__(self, other: Telemetry) -> Telemetry:
        """Both stretches, as of an epoch that was interrupted."""
        devices = dict.fromkeys([*self.peak_bytes, *other.peak_bytes])
        peaks = {name: max(self.peak_bytes.get(name, 0), other.peak_bytes.get(name, 0)) for name in devices}
        seconds, waiting = self.seconds + other.seconds, self.waiting_seconds + other.waiting_seconds
        return Telemetry(self.rows + other.rows, seconds, waiting, peaks)

    def curves(self) -> dict[str, float]:
        """The measures by the names that their curves have in TensorBoard."""
        peaks = {f"telemetry/peak_gib_{name}": size / 2**30 for name, size in self.peak_bytes.items()}
        return {
            "telemetry/rows_per_second": self.rows_per_second,
            "telemetry/waiting_share": self.waiting_share,
            **peaks,
        }

    def text(self) -> str:
        """The measures in one line."""
        peaks = [f"{name} {size / 2**30:.1f} GiB" for name, size in self.peak_bytes.items()]
        return "  ".join([f"{self.rows_per_second:,.0f} rows/s", f"{self.waiting_share:.0%} waiting", *peaks])


class Stopwatch:
    """Adds up what a stretch of training takes, from its construction on.

    Args:
        before: the part of the epoch that an interrupted run had done.
    """

    def __init__(self, before: Telemetry | None = None) -> None:
        self._before = before or Telemetry()
        self._rows, self._waiting_seconds, self._start = 0, 0.0, time.monotonic()

    def add(self, rows: int, waiting_seconds: float) -> None:
        """Notes steps that are done.

        Args:
            rows: that they took in, over all replicas.
            waiting_seconds: `Clock.waited` of them.
        """
        self._rows += rows
        self._waiting_seconds += waiting_seconds

    def read(self) -> Telemetry:
        """What it took until now."""
        seconds = time.monotonic() - self._start
        return self._before + Telemetry(self._rows, seconds, self._waiting_seconds, peak_memory())


def peak_memory() -> dict[str, int]:
    """Peak of memory by device, in bytes, see `Telemetry.peak_bytes`."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"host": peak if sys.platform == "darwin" else peak * 1024}
    for name in gpu_names():
        found[name] = int(tf.config.experimental.get_memory_info(name)["peak"])
    return found


def reset_peaks() -> None:
    """Begins the peaks of the GPUs anew, at the start of an epoch; that of the host is the process's."""
    for name in gpu_names():
        tf.config.experimental.reset_memory_stats(name)


def gpu_names() -> list[str]:
    """The GPUs that TensorFlow uses, as ``GPU:0``."""
    return [f"GPU:{number}" for number in range(len(tf.config.list_logical_devices("GPU")))]


def _now() -> tf.Tensor:
    """Seconds since 1970, float64, when it is evaluated.

    TensorFlow's own stamp takes 2 µs and refuses to run where operations are deterministic; Python's takes 25 µs.
    """
    if config.is_op_determinism_enabled():
        return tf.ensure_shape(tf.numpy_function(_python_now, [], tf.float64), ())
    return tf.timestamp()


def _python_now() -> np.float64:
    return np.float64(time.time())


def _last(operations: Sequence[Any]) -> list[Any]:
    """The operations that no other one waits for."""
    waited_for = {id(source) for op in operations for source in (*op.control_inputs, *(t.op for t in op.inputs))}
    return [op for op in operations if id(op) not in waited_for]
