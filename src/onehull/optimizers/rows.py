"""Rows of a variable: summed gradients of the rows that were looked up, reading and writing a few rows in place.

Shapes: ``N`` look-ups, ``U`` different rows among them, ``d`` width of a row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.ops import control_flow_util


class RowGradient(NamedTuple):
    """The gradient of some rows.

    Attributes:
        rows_U: numbers of the rows. A row that comes twice has the same gradient, the whole one, both times.
        values_Ud: float32, their gradients.
    """

    rows_U: tf.Tensor
    values_Ud: tf.Tensor


def summed_rows(gradient: tf.IndexedSlices) -> RowGradient:
    """Adds up the gradients of each row, which may have been looked up many times; in float32, whatever they are.

    Under XLA, which knows no shapes that depend on the data, every look-up is left in its place with its row's sum.
    """
    if _under_xla():
        rows_N, place_N, sums_Nd = _summed_by_sorting(gradient)
        return RowGradient(rows_N, tf.gather(sums_Nd, place_N))
    return _summed_by_hashing(gradient)


def summed_once(gradient: tf.IndexedSlices) -> RowGradient:
    """The same for whoever adds squares up: where a row comes twice under XLA, its gradient is 0 but for once."""
    if _under_xla():
        rows_N, place_N, sums_Nd = _summed_by_sorting(gradient)
        again_N = tf.concat([tf.zeros((1,), tf.bool), place_N[1:] == place_N[:-1]], axis=0)[: tf.size(rows_N)]
        again_Nd = tf.reshape(again_N, [-1] + [1] * (sums_Nd.shape.rank - 1))
        return RowGradient(rows_N, tf.where(again_Nd, 0.0, tf.gather(sums_Nd, place_N)))
    return _summed_by_hashing(gradient)


def _under_xla() -> bool:
    # TensorFlow has no public way to ask whether a function is being traced for XLA.
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def _summed_by_hashing(gradient: tf.IndexedSlices) -> RowGradient:
    rows_U, place_N = tf.unique(gradient.indices, out_idx=tf.int32)
    values_Nd = tf.cast(gradient.values, tf.float32)
    return RowGradient(rows_U, sum_by_place(values_Nd, place_N, tf.size(rows_U)))


def sum_by_place(values_Nd: tf.Tensor, place_N: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Sums of the values that have the same place, ``(size, d)``, in the order in which they come.

    On a CPU it is the product with a sparse matrix of ones: TensorFlow's segment sum takes three times as long, because
    each of its threads reads all places. On a GPU that product is neither faster nor deterministic, and XLA has none.

    Args:
        values_Nd: the values.
        place_N: int32, the place of each.
        size: number of places.
    """
    if values_Nd.shape.rank != 2 or _under_xla() or tf.config.list_physical_devices("GPU"):
        return tf.math.unsorted_segment_sum(values_Nd, place_N, size)
    count = tf.size(place_N)
    return tf.raw_ops.SparseTensorDenseMatMul(
        a_indices=tf.stack([place_N, tf.range(count)], axis=1),
        a_values=tf.ones(tf.shape(place_N), values_Nd.dtype),
        a_shape=tf.cast(tf.stack([size, count]), tf.int64),
        b=values_Nd,
    )


def _summed_by_sorting(gradient: tf.IndexedSlices) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The rows in order, the number of each among the different ones, and the sums of these, padded with zeros."""
    indices_N, values_Nd = gradient.indices, tf.cast(gradient.values, tf.float32)
    order_N = tf.argsort(indices_N, stable=True)
    rows_N = tf.gather(indices_N, order_N)
    begins_N = tf.concat([tf.zeros((1,), tf.int32), tf.cast(rows_N[1:] != rows_N[:-1], tf.int32)], axis=0)
    place_N = tf.cumsum(begins_N[: tf.size(rows_N)])
    sums_Nd = tf.math.unsorted_segment_sum(tf.gather(values_Nd, order_N), place_N, tf.size(rows_N))
    return rows_N, place_N, sums_Nd


def read_rows(variable: Any, rows_U: tf.Tensor) -> tf.Tensor:
    """Some rows of a variable as float32, without reading the others."""
    rows = tf.raw_ops.ResourceGather(resource=variable.handle, indices=rows_U, dtype=variable.dtype)
    return tf.cast(rows, tf.float32)


def write_rows(variable: Any, rows_U: tf.Tensor, values_Ud: tf.Tensor) -> None:
    """Writes some rows of a variable in place, without touching the others.

    A row that comes twice must come with the same values.
    """
    tf.raw_ops.ResourceScatterUpdate(
        resource=variable.handle, indices=rows_U, updates=tf.cast(values_Ud, variable.dtype)
    )
