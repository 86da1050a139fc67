"""A part of the data in memory, as two tables from which a batch gathers rows.

All ids of a row stand side by side in one table and all numbers and labels in another, so that a batch of shuffled
rows costs two gathers instead of one a feature: the CPU then has its cores for the model.

Shapes: ``R`` rows of the part, ``B`` of a batch, ``L`` values of a feature.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape of one row and dtype, by feature."""


class RowTables:
    """All rows of a part.

    Args:
        shapes: the features; dtypes are int32 and float32.
        rows: number of rows.
        batches: the rows in order, as arrays ``(B, …)`` by feature.
    """

    def __init__(self, shapes: Shapes, rows: int, batches: Iterable[Mapping[str, np.ndarray]]) -> None:
        self.rows = rows
        self._places: dict[str, tuple[str, int, int, tuple[int, ...]]] = {}
        widths = {"int32": 0, "float32": 0}
        for name, (shape, dtype) in shapes.items():
            end = widths[dtype] + math.prod(shape)
            self._places[name] = (dtype, widths[dtype], end, shape)
            widths[dtype] = end
        tables = {dtype: np.empty((rows, width), dtype) for dtype, width in widths.items()}
        self._fill(tables, batches)
        # On the host, also where there is a GPU: the tables may be larger than its memory.
        with tf.device("CPU:0"):
            self._tables = {dtype: tf.constant(table) for dtype, table in tables.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays ``(R, …)`` by feature, in order."""
        tables = {dtype: table.numpy() for dtype, table in self._tables.items()}
        return {
            name: tables[dtype][:, start:end].reshape(self.rows, *shape)
            for name, (dtype, start, end, shape) in self._places.items()
        }

    def epoch(self, batch_size: int, order_R: np.ndarray) -> tf.data.Dataset:
        """One pass over the rows.

        Args:
            batch_size: rows of a batch; the last one may have fewer.
            order_R: places of the rows, in the order in which they are wanted.

        Returns:
            Batches of tensors ``(B, …)`` by feature.
        """
        with tf.device("CPU:0"):
            wanted_R = tf.constant(order_R, tf.int64)

        def batch(number: Any) -> dict[str, Any]:
            rows_B = wanted_R[number * batch_size : (number + 1) * batch_size]
            return self._split({dtype: tf.gather(table, rows_B) for dtype, table in self._tables.items()})

        return tf.data.Dataset.range(-(-self.rows // batch_size)).map(batch, num_parallel_calls=tf.data.AUTOTUNE)

    def _fill(self, tables: Mapping[str, np.ndarray], batches: Iterable[Mapping[str, np.ndarray]]) -> None:
        first = 0
        for batch in batches:
            size = len(next(iter(batch.values())))
            for name, (dtype, start, end, _) in self._places.items():
                tables[dtype][first : first + size, start:end] = batch[name].reshape(size, end - start)
            first += size

    def _split(self, gathered: Mapping[str, Any]) -> dict[str, Any]:
        """Rows of both tables back to features; scalars are rows of the transpose, which are contiguous."""
        columns = {dtype: tf.unstack(tf.transpose(table)) for dtype, table in gathered.items()}
        return {
            name: gathered[dtype][:, start:end] if shape else columns[dtype][start]
            for name, (dtype, start, end, shape) in self._places.items()
        }
