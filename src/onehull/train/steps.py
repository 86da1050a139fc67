"""Compiled training: many steps in one call, between which nothing comes back to Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from onehull.model import FeatureEmbeddings, MonotoneCalibrator, MultiTaskModel
from onehull.train.telemetry import Clock, start_clock, timed_step

BatchesOf = Callable[[int, int], tf.data.Dataset]
"""(replica, number of replicas) → that replica's rows of each batch."""


class Taken(NamedTuple):
    """What a call took in.

    Attributes:
        rows: of all replicas; where there are several processes, what this one had times their number.
        waiting_seconds: in which this process waited for a batch.
    """

    rows: int
    waiting_seconds: float


class Steps:
    """Runs steps of a compiled model on all replicas of its strategy.

    Args:
        model: a compiled model, built in the scope of its strategy.
    """

    def __init__(self, model: MultiTaskModel) -> None:
        model.build_optimizers()
        strategy = model.distribute_strategy
        _check_penalties(model, strategy)

        def step(batch: Any) -> None:
            model.train_step(batch)

        if model.jit_compile is True and strategy.num_replicas_in_sync == 1:
            step = tf.function(step, jit_compile=True, reduce_retracing=True, autograph=False)

        def take(iterator: Any, rows: tf.Tensor, clock: Clock) -> tuple[Any, ...]:
            batches: list[Any] = []

            def next_batch() -> Any:
                batches.append(iterator.get_next())
                return batches[0]

            clock = timed_step(lambda batch: strategy.run(step, args=(batch,)), next_batch, clock)
            return (rows + _rows(batches[0], strategy), *clock)

        @tf.function(reduce_retracing=True, autograph=False)
        def run(iterator: Any, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            def body(done: tf.Tensor, rows: tf.Tensor, *clock: tf.Tensor) -> tuple[Any, ...]:
                return (done + 1, *take(iterator, rows, Clock(*clock)))

            begin = (tf.constant(0), tf.zeros((), tf.int64), *start_clock())
            _, rows, _, waited = tf.while_loop(lambda done, *_: done < count, body, begin, parallel_iterations=1)
            return rows, waited

        @tf.function(reduce_retracing=True, autograph=False)
        def run_one(iterator: Any) -> tuple[tf.Tensor, tf.Tensor]:
            rows, _, waited = take(iterator, tf.zeros((), tf.int64), start_clock())
            return rows, waited

        self._run = run if strategy.num_replicas_in_sync == 1 else run_one
        self._strategy = strategy

    def __call__(self, iterator: Iterator[Any], count: int) -> Taken:
        """Takes in a number of batches, which must be there."""
        if self._strategy.num_replicas_in_sync == 1:
            rows, waited = self._run(iterator, tf.constant(count))
            return Taken(int(rows), float(waited))
        # TensorFlow takes the shapes of what replicas exchange as fixed within one call, and the number of rows that
        # a batch looks up is not.
        calls = [self._run(iterator) for _ in range(count)]
        return Taken(sum(int(rows) for rows, _ in calls), sum(float(waited) for _, waited in calls))

    @property
    def traces(self) -> int:
        """How often the step has been traced."""
        return int(self._run.experimental_get_tracing_count())

    def iterate(self, batches_of: BatchesOf) -> Iterator[Any]:
        """An iterator over the batches of this process's replicas.

        Args:
            batches_of: a replica's part of the data.
        """
        strategy = self._strategy
        every = strategy.num_replicas_in_sync
        if every == 1:
            return iter(batches_of(0, 1))

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = every // context.num_input_pipelines
            first = context.input_pipeline_id * local
            parts = [batches_of(first + number, every) for number in range(local)]
            in_turn = tf.data.Dataset.choose_from_datasets(parts, tf.data.Dataset.range(local).repeat(), False)
            # How many there are is known; said to be endless, TensorFlow does not ask all workers before each batch.
            return in_turn.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

        options = tf.distribute.InputOptions(experimental_fetch_to_device=False)
        return iter(strategy.distribute_datasets_from_function(of_worker, options))


def _rows(batch: Any, strategy: tf.distribute.Strategy) -> tf.Tensor:
    """Rows of a batch, int64."""
    first = strategy.experimental_local_results(tf.nest.flatten(batch)[0])
    here = tf.add_n([tf.shape(part, out_type=tf.int64)[0] for part in first])
    return here * (strategy.num_replicas_in_sync // len(first))


def _check_penalties(model: MultiTaskModel, strategy: tf.distribute.Strategy) -> None:
    """Refuses what Keras would add up wrongly: it keeps one list of penalties for all replicas of a process.

    Synchronised batch normalisation makes these take turns in the middle of a model.
    """
    if strategy.num_replicas_in_sync == 1 or len(strategy.extended.worker_devices) == 1:
        return
    layers = list(model._flatten_layers())
    synchronised = [la.name for la in layers if isinstance(la, keras.layers.BatchNormalization)]
    adding = [la.name for la in layers if getattr(la, "l2", 0) and isinstance(la, FeatureEmbeddings)]
    adding += [la.name for la in layers if isinstance(la, MonotoneCalibrator)]
    if synchronised and adding:
        rule = "cannot be trained on several devices of one process with batch normalisation and penalties of a batch"
        remedy = "Leave out embedding_l2 or batch_norm, or run one process for each device: onehull train --workers"
        raise ValueError(f"{model.name} {rule}. Received {synchronised[:3]} and {adding}. {remedy}")
