"""What the replicas of a distributed step do together (`tf.distribute`); with one replica, nothing is done.

Replica r of R sees rows r, r + R, … of the whole batch. What is a property of the batch, such as the number of labels
or a Gram matrix, is summed over the replicas, so that every replica decides the same and their weights stay equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import keras
import tensorflow as tf

_Owner = TypeVar("_Owner")
_Value = TypeVar("_Value")


class computed_once(Generic[_Owner, _Value]):  # noqa: N801  used as `functools.cached_property` is
    """A property that is computed when it is first asked for.

    `functools.cached_property` holds a lock meanwhile, until Python 3.12 one for all objects of a class. Replicas are
    traced in threads that take turns where they sum something, such as the gradient of a batch normalisation: the
    second one would wait for the first one's lock, and the first one for the second to come as far.
    """

    def __init__(self, compute: Callable[[_Owner], _Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: _Owner, owner: type | None = None) -> _Value:
        value = self._compute(instance)
        instance.__dict__[self._name] = value  # found before this from now on
        return value


def replicas() -> int:
    """Number of replicas that the current step runs on."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def replicas_here() -> int:
    """Number of replicas of the current step in this process."""
    return len(tf.distribute.get_strategy().extended.worker_devices) if replicas() > 1 else 1


def replica() -> tf.Tensor:
    """Number of this replica, from 0."""
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)


def summed(value: Any) -> Any:
    """The sum over all replicas of a tensor, or of each in a nested structure."""
    if replicas() == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def summed_rows(rows: tf.IndexedSlices) -> tf.IndexedSlices:
    """The sum over all replicas of rows of a table: all of them, those that several replicas have more than once."""
    if replicas() == 1:
        return rows
    context = tf.distribute.get_replica_context()
    values, indices = (context.all_gather(part, axis=0) for part in (rows.values, rows.indices))
    return tf.IndexedSlices(tf.ensure_shape(values, rows.values.shape), indices, rows.dense_shape)


def state_variable(value: Any, name: str) -> tf.Variable:
    """A variable of TensorFlow, not of Keras: it belongs to training, not to the saved model.

    All replicas assign the same value to it, because it is made of sums over all of them.
    """
    aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(value, trainable=False, name=name, aggregation=aggregation)


def batch_normalization(**options: Any) -> keras.layers.BatchNormalization:
    """A batch normalisation over the rows of all replicas, where the model is built for several.

    Args:
        **options: of `keras.layers.BatchNormalization`.
    """
    return keras.layers.BatchNormalization(synchronized=replicas() > 1, **options)


def run_where(taken: tf.Tensor, update: Callable[..., None], gradients: Sequence[Any]) -> None:
    """Runs an update of the weights on every replica, or on none.

    Args:
        taken: bool, equal on all replicas.
        update: gradients → None.
        gradients: of this replica.
    """
    if replicas() == 1:
        tf.cond(taken, lambda: _after(update, gradients), tf.no_op)
        return

    # Keras' optimizers leave the replica to update the copies, which TensorFlow forbids inside of a condition there:
    # so the condition stands outside of the replicas, and each of them is entered again within.
    def across(strategy: Any, taken: Any, gradients: Any) -> None:
        first = strategy.experimental_local_results(taken)[0]
        each = strategy.extended.call_for_each_replica
        tf.cond(first, lambda: _after(each, update, args=(gradients,)), tf.no_op)

    tf.distribute.get_replica_context().merge_call(across, args=(taken, gradients))


def _after(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tf.Operation:
    """What a branch of `tf.cond` returns once it has called something for its effect."""
    call(*args, **kwargs)
    return tf.no_op()
