"""Gradients of several tasks at the same variables: their inner products, and their weighted sums.

Shapes: ``T`` tasks, ``N`` elements of a tensor for the whole batch, ``U`` rows of a table that the batch looks up,
``G`` groups of variables.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from onehull.model.replicas import replicas, summed, summed_rows
from onehull.optimizers.rows import sum_by_place

Gradient = Any
"""A tensor, `tf.IndexedSlices` for rows of an embedding, or None."""


class TaskGradients(ABC):
    """The gradients of all tasks at one variable."""

    @abstractmethod
    def flat(self) -> tf.Tensor:
        """One row a task, ``(T, N)`` float32; inner products of rows are those of the gradients."""

    @abstractmethod
    def combined(self, weights_T: tf.Tensor) -> Gradient:
        """The sum of the gradients, each times its weight."""

    @abstractmethod
    def over_replicas(self) -> TaskGradients:
        """The sum over all replicas."""


@dataclass(frozen=True)
class DenseGradients(TaskGradients):
    """Gradients at a dense variable.

    Attributes:
        values: ``(T, …)``.
    """

    values: tf.Tensor

    def flat(self) -> tf.Tensor:
        """``(T, N)``."""
        return tf.reshape(tf.cast(self.values, tf.float32), [self.values.shape[0], -1])

    def combined(self, weights_T: tf.Tensor) -> Gradient:
        """A tensor of the variable's shape."""
        return tf.tensordot(tf.cast(weights_T, self.values.dtype), self.values, axes=1)

    def over_replicas(self) -> TaskGradients:
        """Summed element by element."""
        return DenseGradients(summed(self.values))


@dataclass(frozen=True)
class SparseGradients(TaskGradients):
    """Gradients at an embedding table, each row that the batch looks up once.

    Attributes:
        rows_TUd: ``(T, U, d)``.
        indices_U: the rows' places in the table.
        dense_shape: of the table.
    """

    rows_TUd: tf.Tensor
    indices_U: tf.Tensor
    dense_shape: tf.Tensor

    @classmethod
    def deduplicated(cls, parts: Sequence[tf.IndexedSlices]) -> SparseGradients:
        """From one gradient a task, of the same look-ups in the same order.

        A row that several examples look up has one gradient, their sum: inner products of the terms would miss the
        products between examples.
        """
        width = parts[0].values.shape[-1]
        indices_U, position = tf.unique(tf.reshape(parts[0].indices, [-1]))
        beside = tf.concat([tf.reshape(part.values, [-1, width]) for part in parts], axis=1)
        summed = sum_by_place(beside, position, tf.size(indices_U))
        rows_TUd = tf.transpose(tf.reshape(summed, [-1, len(parts), width]), [1, 0, 2])
        return cls(rows_TUd, indices_U, parts[0].dense_shape)

    def flat(self) -> tf.Tensor:
        """``(T, U · d)``."""
        return tf.reshape(tf.cast(self.rows_TUd, tf.float32), [self.rows_TUd.shape[0], -1])

    def combined(self, weights_T: tf.Tensor) -> Gradient:
        """`tf.IndexedSlices` with each row once."""
        values = tf.tensordot(tf.cast(weights_T, self.rows_TUd.dtype), self.rows_TUd, axes=1)
        return tf.IndexedSlices(values, self.indices_U, self.dense_shape)

    def over_replicas(self) -> TaskGradients:
        """Rows of all replicas; those that several of them look up are added up."""
        tasks, width = self.rows_TUd.shape[0], self.rows_TUd.shape[2]
        beside_UTd = tf.reshape(tf.transpose(self.rows_TUd, [1, 0, 2]), [-1, tasks * width])
        whole = summed_rows(tf.IndexedSlices(beside_UTd, self.indices_U))
        parts = tf.split(whole.values, tasks, axis=1)
        return SparseGradients.deduplicated([tf.IndexedSlices(part, whole.indices, self.dense_shape) for part in parts])


def task_gradients(parts: Sequence[Gradient], like: Any) -> TaskGradients:
    """The gradients of one variable from one a task; a task that does not reach the variable has a gradient of 0.

    Args:
        parts: one gradient a task.
        like: the variable.
    """
    present = [part for part in parts if part is not None]
    if present and all(isinstance(part, tf.IndexedSlices) for part in present):
        first = present[0]
        zero = tf.IndexedSlices(tf.zeros_like(first.values), first.indices, first.dense_shape)
        return SparseGradients.deduplicated([zero if part is None else part for part in parts])
    zero = tf.zeros(like.shape, present[0].dtype if present else tf.float32)
    return DenseGradients(tf.stack([zero if part is None else tf.convert_to_tensor(part) for part in parts]))


def over_replicas(gradients: Sequence[TaskGradients]) -> list[TaskGradients]:
    """The gradients of the whole batch from those of this replica's rows; with one replica, the same."""
    return list(gradients) if replicas() == 1 else [part.over_replicas() for part in gradients]


def gram(gradients: Sequence[TaskGradients], active_T: tf.Tensor) -> tf.Tensor:
    """Inner products ``(T, T)`` over all variables; rows and columns of absent tasks are exactly 0.

    Args:
        gradients: one entry a variable or tensor.
        active_T: tasks with a label.
    """
    gram_TT = tf.add_n([_products(part.flat()) for part in gradients])
    return _of_active(gram_TT, active_T)


def gram_by_group(gradients: Sequence[TaskGradients], group: Sequence[int], active_T: tf.Tensor) -> tf.Tensor:
    """Inner products of each group of variables, ``(G, T, T)``.

    Args:
        gradients: one entry a variable.
        group: number of each variable's group, from 0.
        active_T: tasks with a label.
    """
    products = [_products(part.flat()) for part in gradients]
    by_group = [
        tf.add_n([product for product, of in zip(products, group, strict=True) if of == number])
        for number in range(max(group) + 1)
    ]
    return _of_active(tf.stack(by_group), active_T)


def add_gradients(parts: Sequence[Gradient]) -> Gradient:
    """Sum of gradients of one variable; stays sparse while all parts are."""
    present = [part for part in parts if part is not None]
    if len(present) <= 1:
        return present[0] if present else None
    if all(isinstance(part, tf.IndexedSlices) for part in present):
        values = tf.concat([part.values for part in present], axis=0)
        indices = tf.concat([part.indices for part in present], axis=0)
        return tf.IndexedSlices(values, indices, present[0].dense_shape)
    return tf.add_n([tf.convert_to_tensor(part) for part in present])


def scaled(gradient: Gradient, factor: tf.Tensor) -> Gradient:
    """A gradient times a number."""
    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values * tf.cast(factor, gradient.values.dtype)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient * tf.cast(factor, gradient.dtype)


def deduplicated(gradient: Gradient) -> Gradient:
    """A sparse gradient with each row once; a dense one as it is."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    indices_U, position = tf.unique(gradient.indices)
    summed_Ud = sum_by_place(gradient.values, position, tf.size(indices_U))
    return tf.IndexedSlices(summed_Ud, indices_U, gradient.dense_shape)


def known_after(value: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """A value that is not known before another one is, so that no update made of it overtakes that one.

    Variables that the other one was made of are read before they are updated, which TensorFlow orders by an edge from
    the read to the update. Grappler removes that edge where it sees a longer way, such as the one through the
    `tf.identity_n` of all gradients that Keras' optimizers make, and removes the identity, and with it the way, later.

    Args:
        value: any tensor.
        other: a tensor of numbers.
    """
    return tf.where(tf.math.is_finite(tf.reduce_sum(other)), value, value)


def clipped(gradients: Sequence[Gradient], norm: float, *, share: float = 1.0) -> list[Gradient]:
    """Gradients times one factor, so that their norm together is at most `norm`; then times `share`.

    A norm that is not finite leaves them as they are.

    Args:
        gradients: of all variables, a sparse one with each row once; none is None.
        norm: the largest norm.
        share: another factor.
    """
    values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    found = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(tf.cast(value, tf.float32))) for value in values]))
    factor = tf.where(tf.math.is_finite(found), tf.minimum(1.0, norm / tf.maximum(found, 1e-30)), 1.0)
    return [scaled(gradient, factor * share) for gradient in gradients]


def all_finite(gradients: Sequence[Gradient]) -> tf.Tensor:
    """Whether every element of all gradients is finite, a bool scalar."""
    values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients if g is not None]
    # A sum is not finite when any of its terms is not; one pass, and nothing as large as the gradients is made.
    sums = [tf.reduce_sum(tf.cast(value, tf.float32) * 0.0) for value in values]
    return tf.math.is_finite(tf.add_n([tf.zeros(()), *sums]))


def _products(flat_TN: tf.Tensor) -> tf.Tensor:
    return tf.matmul(flat_TN, flat_TN, transpose_b=True)


def _of_active(gram_TT: tf.Tensor, active_T: tf.Tensor) -> tf.Tensor:
    both_TT = active_T[:, tf.newaxis] & active_T[tf.newaxis, :]
    return tf.where(both_TT, gram_TT, tf.zeros_like(gram_TT))
