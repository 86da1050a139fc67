"""A part of the data in memory, as one table of words from which a batch gathers rows.

A batch of shuffled rows costs one gather instead of one a feature: the CPU then has its cores for the model.

Shapes: ``R`` rows of the part, ``B`` of a batch, ``W`` words of a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf


class RowTable:
    """All rows of a part.

    Args:
        rows: number of rows.
        words: words of a row.
        pieces: the rows in order, int32 ``(some rows, W)`` each.
    """

    def __init__(self, rows: int, words: int, pieces: Iterable[np.ndarray]) -> None:
        self.rows = rows
        table_RW = np.empty((rows, words), np.int32)
        first = 0
        for piece in pieces:
            table_RW[first : first + len(piece)] = piece
            first += len(piece)
        # On the host, also where there is a GPU: the table may be larger than its memory.
        with tf.device("CPU:0"):
            self.words_RW = tf.constant(table_RW)

    def batches(self, order_R: np.ndarray, batch_size: int, start: int, worker: tuple[int, int]) -> tf.data.Dataset:
        """Batches of one pass over the rows.

        Args:
            order_R: places of the rows, in the order in which they are wanted.
            batch_size: rows of a batch; the last one may have fewer.
            start: number of the first batch that is wanted.
            worker: (w, W): of each batch only the rows w, w + W, w + 2 W and so on.

        Returns:
            int32 ``(B, W)``.
        """
        with tf.device("CPU:0"):
            wanted_R = tf.constant(order_R, tf.int64)
        first, step = worker

        @tf.autograph.experimental.do_not_convert
        def batch(number: Any) -> Any:
            rows_B = wanted_R[number * batch_size : (number + 1) * batch_size]
            return tf.gather(self.words_RW, rows_B[first::step])

        numbers = tf.data.Dataset.range(start, -(-self.rows // batch_size))
        return numbers.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
