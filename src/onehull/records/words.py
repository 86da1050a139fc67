"""Rows as words and back: NumPy packs and checks, TensorFlow takes batches apart, see `RowPlan`.

Shapes: ``B`` rows, ``W`` words of a row, ``L`` values of a feature, ``I`` ids of a row over all inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from onehull.records.row_plan import LABEL_PREFIX, WORD_BITS, RowPlan
from onehull.spec.inputs import ModelInput


class RowWords:
    """Packs rows into words, and takes them out again bit for bit.

    Args:
        plan: where the values stand.
        inputs: encoded inputs of a row.
        tasks: tasks with a label.
    """

    def __init__(self, plan: RowPlan, inputs: Sequence[ModelInput], tasks: Sequence[str]) -> None:
        self.plan = plan
        self._rows = {item.name: item.rows for item in inputs if item.kind != "dense"}
        self.shapes: dict[str, tuple[int, ...]] = {item.name: item.shape for item in inputs}
        self.shapes |= {f"{LABEL_PREFIX}{task}": () for task in tasks}
        places = [place for name in plan.ids for place in plan.ids[name]]
        row_batch = tf.TensorSpec((None, plan.words), tf.int32)
        self._unpack = tf.function(self.unpack, input_signature=[row_batch], autograph=False)
        self._word_I = np.array([place.word for place in places], np.int32)
        self._shift_I1 = np.array([[place.shift] for place in places], np.int32)
        # A mask of 32 bits is -1: all of the word, whose highest bit an id never has.
        self._mask_I1 = np.array([[-1 if p.bits == WORD_BITS else (1 << p.bits) - 1] for p in places], np.int32)

    def pack(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Rows as little-endian int32 ``(B, W)``.

        Args:
            values: arrays ``(B,)`` or ``(B, L)`` by feature: float32 numbers and labels, ids.

        Raises:
            ValueError: an id is not a row of its table; names the input.
        """
        rows = len(next(iter(values.values())))
        words_BW = np.zeros((rows, self.plan.words), "<u4")
        for name, first in self.plan.numbers.items():
            width = math.prod(self.shapes[name])
            numbers = np.ascontiguousarray(values[name], dtype="<f4").reshape(rows, width)
            words_BW[:, first : first + width] = numbers.view("<u4")
        for name, places in self.plan.ids.items():
            ids_BL = np.asarray(values[name]).reshape(rows, len(places))
            self._check_ids(name, ids_BL)
            for column, place in enumerate(places):
                words_BW[:, place.word] |= ids_BL[:, column].astype(np.uint32) << np.uint32(place.shift)
        return words_BW.view("<i4")

    @tf.autograph.experimental.do_not_convert
    def unpack_batch(self, words_BW: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Inputs by name and labels by task, from int32 words ``(B, W)``."""
        values = self._unpack(words_BW)
        inputs = {name: value for name, value in values.items() if not name.startswith(LABEL_PREFIX)}
        labels = {name.removeprefix(LABEL_PREFIX): value for name, value in values.items() if name not in inputs}
        return inputs, labels

    def unpack(self, words_BW: Any) -> dict[str, Any]:
        """Tensors ``(B,)`` or ``(B, L)`` by feature, from int32 words ``(B, W)``."""
        # A column of the words is a row of the transpose, contiguous, which is what scalars are taken from.
        words_WB = tf.transpose(words_BW)
        values: dict[str, Any] = dict.fromkeys(self.shapes)
        for name, first in self.plan.numbers.items():
            shape = self.shapes[name]
            if math.prod(shape) == 1:
                found = tf.reshape(words_WB[first], (-1, *shape))
            else:
                found = words_BW[:, first : first + shape[0]]
            values[name] = tf.bitcast(found, tf.float32)
        if not self.plan.ids:
            return values
        ids_IB = tf.gather(words_WB, self._word_I)
        shift_IB = tf.broadcast_to(self._shift_I1, tf.shape(ids_IB))
        ids_IB = tf.bitwise.bitwise_and(tf.bitwise.right_shift(ids_IB, shift_IB), self._mask_I1)
        lengths = [len(places) for places in self.plan.ids.values()]
        for name, ids_LB in zip(self.plan.ids, tf.split(ids_IB, lengths), strict=True):
            values[name] = tf.transpose(ids_LB) if self.shapes[name] else ids_LB[0]
        return values

    def _check_ids(self, name: str, ids_BL: np.ndarray) -> None:
        if ids_BL.size and not 0 <= ids_BL.min() <= ids_BL.max() < self._rows[name]:
            found = f"{ids_BL.min()} to {ids_BL.max()}"
            rule = f"must be ids from 0 to {self._rows[name] - 1}, the rows of its table"
            raise ValueError(f"input {name!r} {rule}. Received {found}. Analyse the features again: onehull prepare")
