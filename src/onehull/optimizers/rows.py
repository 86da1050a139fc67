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
    values_Nd = tf.cast(gradient.values, tf.float32)
    # TensorFlow has no public way to ask whether a function is being traced for XLA.
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        return _summed_by_sorting(gradient.indices, values_Nd)
    rows_U, place_N = tf.unique(gradient.indices, out_idx=tf.int32)
    return RowGradient(rows_U, tf.math.unsorted_segment_sum(values_Nd, place_N, tf.size(rows_U)))


def _summed_by_sorting(indices_N: tf.Tensor, values_Nd: tf.Tensor) -> RowGradient:
    order_N = tf.argsort(indices_N, stable=True)
    rows_N = tf.gather(indices_N, order_N)
    begins_N = tf.concat([tf.zeros((1,), tf.int32), tf.cast(rows_N[1:] != rows_N[:-1], tf.int32)], axis=0)
    place_N = tf.cumsum(begins_N[: tf.size(rows_N)])
    sums_Nd = tf.math.unsorted_segment_sum(tf.gather(values_Nd, order_N), place_N, tf.size(rows_N))
    return RowGradient(rows_N, tf.gather(sums_Nd, place_N))


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
