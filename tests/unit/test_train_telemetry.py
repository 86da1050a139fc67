"""Telemetry: waiting is measured in the compiled loop, and parts of an epoch add up."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.data.experimental.ops import testing

from onehull.train.free_memory import resident_bytes
from onehull.train.telemetry import Clock, Stopwatch, Telemetry, peak_memory, reset_peaks, start_clock, timed_step


def ancestors(op):
    """Operations that must be done before one is."""
    found: set[tf.Operation] = set()
    open_ops = [op]
    while open_ops:
        current = open_ops.pop()
        sources = {*current.control_inputs, *(tensor.op for tensor in current.inputs)} - found
        found |= sources
        open_ops.extend(sources)
    return found


def timed_loop(step):
    @tf.function(autograph=False)
    def run(iterator, count):
        def body(done, *clock):
            return (done + 1, *timed_step(step, iterator.get_next, Clock(*clock)))

        return tf.while_loop(lambda done, *_: done < count, body, (tf.constant(0), *start_clock()))

    return run


def sleeping(milliseconds, count):
    """Elements 0, 1, … each of which takes its time on one thread, without Python."""
    return tf.data.Dataset.range(count).apply(testing.sleep(milliseconds * 1000))


def test_a_slow_input_is_waited_for():
    run, count = timed_loop(tf.identity), 8
    _, _, waited = run(iter(sleeping(30, count)), tf.constant(count))
    # Sleeping takes 240 ms at least, whatever else the machine does.
    assert float(waited) >= 0.2


def test_waiting_lies_between_the_end_of_a_step_and_the_arrival_of_the_next_batch():
    @tf.function(autograph=False)
    def run(iterator, ready):
        now = tf.timestamp()
        clock = timed_step(tf.identity, iterator.get_next, Clock(now + ready, tf.constant(7.0, tf.float64)))
        return clock.waited

    iterator = iter(tf.data.Dataset.range(2))
    assert float(run(iterator, tf.constant(3600.0, tf.float64))) == 7  # it arrived while the step before still ran
    assert float(run(iterator, tf.constant(-3600.0, tf.float64))) >= 3607


def test_a_step_is_done_when_its_variables_are_written():
    """Nothing of what the step does is returned; the second stamp comes after all of it, and the first before it."""
    total = tf.Variable(0.0)

    @tf.function(autograph=False)
    def run(iterator):
        return timed_step(lambda batch: total.assign_add(tf.cast(batch, tf.float32)), iterator.get_next, start_clock())

    graph = run.get_concrete_function(iter(tf.data.Dataset.range(5))).graph
    stamps = [op for op in graph.get_operations() if op.type == "Timestamp"]
    awaited = [{op.type for op in ancestors(stamp)} for stamp in stamps]
    kinds = [("IteratorGetNext" in types, "AssignAddVariableOp" in types) for types in awaited]
    assert kinds == [(False, False), (True, False), (True, True)]


def test_waiting_and_steps_add_up_to_the_time_of_the_loop():
    run = timed_loop(tf.identity)

    @tf.function(autograph=False)
    def both(iterator):
        first = tf.timestamp()
        with tf.control_dependencies([first]):
            _, ready, waited = run(iterator, tf.constant(6))
        return ready - first, waited

    total, waited = both(iter(sleeping(5, 6)))
    assert 0 < float(waited) <= float(total)


@pytest.mark.slow
def test_replicas_of_one_process_are_timed():
    script = """
        import tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        from onehull.train.telemetry import Clock, timed_step

        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            total = tf.Variable(0.0, aggregation=tf.VariableAggregation.SUM)
        data = tf.data.Dataset.range(12).batch(2)
        iterator = iter(strategy.experimental_distribute_dataset(data))

        @tf.function(autograph=False)
        def run(iterator, ready, waited):
            def step(batch):
                strategy.run(lambda rows: total.assign_add(tf.cast(tf.reduce_sum(rows), tf.float32)), (batch,))
            return timed_step(step, iterator.get_next, Clock(ready, waited))

        clock = Clock(tf.timestamp() - 3600, tf.zeros((), tf.float64))
        for _ in range(6):
            clock = run(iterator, *clock)
        print(float(total.read_value()), float(clock.waited))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    total, waited = map(float, done.stdout.split())
    assert total == sum(range(12))
    assert 3600 <= waited < 3700  # the hour before the first batch, once


def test_parts_of_an_epoch_add_up():
    first = Telemetry(100, 2.0, 0.5, {"host": 10, "GPU:0": 7})
    both = first + Telemetry(300, 2.0, 1.5, {"host": 12})
    assert both == Telemetry(400, 4.0, 2.0, {"host": 12, "GPU:0": 7})
    assert both.rows_per_second == 100
    assert both.waiting_share == 0.5
    assert both.curves()["telemetry/rows_per_second"] == 100
    assert both.text().startswith("100 rows/s  50% waiting  host 0.0 GiB")


def test_nothing_trained_divides_by_nothing():
    assert Telemetry().rows_per_second == 0
    assert Telemetry().waiting_share == 0


def test_a_stopwatch_continues_the_epoch_that_was_interrupted():
    watch = Stopwatch(Telemetry(1000, 5.0, 1.0))
    watch.add(512, 0.25)
    watch.add(512, 0.25)
    read = watch.read()
    assert read.rows == 2024
    assert read.seconds >= 5.0
    assert read.waiting_seconds == 1.5
    assert read.peak_bytes == pytest.approx(peak_memory(), rel=0.1)


def test_the_peak_is_at_least_what_the_process_holds_now():
    block = np.ones(64 << 17)
    held = resident_bytes()
    peak = peak_memory()["host"]
    assert peak >= 0.98 * held > block.nbytes  # the kernel counts pages of threads a little late
    assert peak < 1 << 42  # bytes, not kilobytes taken for megabytes
    del block
    reset_peaks()  # touches no GPU that is not there
    assert peak_memory()["host"] >= peak
