"""Lengths of the tasks' gradients and the angles between them, in float64 and without the noise of the Gram matrix.

A Gram matrix in float32 is in error by some 1e-7 of its size, and need not be positive semi-definite. Angles are looked
at, not the matrix itself: a task whose gradient is a thousand times shorter than another's is no less independent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from onehull.balance.presence import solution_tasks
from onehull.balance.spectrum import spectrum
from onehull.balance.types import Stats


class Geometry(NamedTuple):
    """What a method solves with. Tasks outside the solution stand as unit vectors orthogonal to everything.

    Attributes:
        solved_T: bool, tasks in the solution.
        norms_T: lengths of the gradients; 1 outside the solution.
        cosines_TT: cosines, exactly positive semi-definite; rows of the identity outside the solution.
        values_T: eigenvalues of the cosines, ascending; those that are noise are 0.
        vectors_TT: their eigenvectors, in columns.
        gram_TT: inner products; 0 outside the solution.
        share_T: one over the number of tasks in the solution; 0 outside it.
    """

    solved_T: tf.Tensor
    norms_T: tf.Tensor
    cosines_TT: tf.Tensor
    values_T: tf.Tensor
    vectors_TT: tf.Tensor
    gram_TT: tf.Tensor
    share_T: tf.Tensor

    @property
    def rank(self) -> tf.Tensor:
        """Number of independent gradients in the solution, int32."""
        independent = tf.math.count_nonzero(self.values_T > 0, dtype=tf.int32)
        return independent - tf.math.count_nonzero(~self.solved_T, dtype=tf.int32)

    def gram_spectrum(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Eigenvalues ``(T,)`` of `gram_TT`, ascending, and eigenvectors in columns ``(T, T)``.

        As many of the values are positive as gradients are independent; the others are 0.
        """
        values_T, vectors_TT = spectrum(self.gram_TT)
        size = values_T.shape[0]
        independent_T = (tf.range(size) >= size - self.rank) & (values_T > 0)
        return tf.where(independent_T, values_T, tf.zeros_like(values_T)), vectors_TT


def geometry(stats: Stats) -> Geometry:
    """The geometry of a step's gradients."""
    solved_T = solution_tasks(stats)
    given_TT = tf.convert_to_tensor(stats.gram_TT)
    gram_TT = tf.cast(given_TT, tf.float64)
    norms_T = tf.sqrt(tf.where(solved_T, tf.linalg.diag_part(gram_TT), tf.ones_like(solved_T, tf.float64)))
    apart_TT = tf.eye(solved_T.shape[0], dtype=tf.float64)
    # The decomposition below raises where a value is not finite.
    both_TT = solved_T[:, None] & solved_T & tf.equal(apart_TT, 0) & tf.math.is_finite(gram_TT)
    cosines_TT = tf.where(both_TT, gram_TT / (norms_T[:, None] * norms_T), apart_TT)
    values_T, vectors_TT = spectrum(cosines_TT)
    noise = 8 * solved_T.shape[0] * np.finfo(given_TT.dtype.as_numpy_dtype).eps
    values_T = tf.where(values_T > noise * values_T[-1], values_T, tf.zeros_like(values_T))
    cosines_TT = tf.matmul(vectors_TT * values_T, vectors_TT, transpose_b=True)
    cosines_TT = (cosines_TT + tf.transpose(cosines_TT)) / 2
    inside_T = tf.cast(solved_T, tf.float64)
    lengths_T = inside_T * norms_T
    gram_clean_TT = lengths_T[:, None] * lengths_T * cosines_TT
    share_T = inside_T / tf.maximum(tf.reduce_sum(inside_T), 1)
    return Geometry(solved_T, norms_T, cosines_TT, values_T, vectors_TT, gram_clean_TT, share_T)


def update_length(gram_TT: tf.Tensor, weights_T: tf.Tensor) -> tf.Tensor:
    """Length of the weighted sum of the gradients, a scalar."""
    return tf.sqrt(tf.maximum(tf.tensordot(weights_T, tf.linalg.matvec(gram_TT, weights_T), 1), 0))
