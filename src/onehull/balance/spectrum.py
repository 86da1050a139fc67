"""Eigenvalues and eigenvectors of small symmetric matrices, to rounding error under every compiler.

What XLA makes of ``tf.linalg.eigh`` on a CPU stops when elements beside the diagonal are some 1e-6 of those on it
(measured with TensorFlow 2.21, also in float64). Jacobi's rotations, which converge quadratically, finish the work:
after the eager kernel there is nothing left to do, after XLA's it is one or two sweeps.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_SWEEPS = 6


def spectrum(matrix_TT: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Eigenvalues ``(T,)``, ascending, and eigenvectors in columns ``(T, T)``.

    Args:
        matrix_TT: float64, symmetric, finite.
    """
    size = matrix_TT.shape[0]
    partners_RT = tf.constant(_rounds(size), tf.int32)
    _, vectors_TT = tf.linalg.eigh(matrix_TT)

    def rotate(step: tf.Tensor, vectors_TT: tf.Tensor, rotated_TT: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        rotation_TT = _rotation(rotated_TT, tf.gather(partners_RT, step % partners_RT.shape[0]))
        return step + 1, tf.matmul(vectors_TT, rotation_TT), _between(rotation_TT, rotated_TT)

    def going(step: tf.Tensor, _vectors_TT: tf.Tensor, rotated_TT: tf.Tensor) -> tf.Tensor:
        beside_TT = tf.linalg.set_diag(rotated_TT, tf.zeros(size, rotated_TT.dtype))
        rounding = size * np.finfo(np.float64).eps * tf.reduce_max(tf.abs(rotated_TT))
        return (step < _SWEEPS * partners_RT.shape[0]) & (tf.reduce_max(tf.abs(beside_TT)) > rounding)

    start = (tf.constant(0), vectors_TT, _between(vectors_TT, matrix_TT))
    _, vectors_TT, rotated_TT = tf.while_loop(going, rotate, start)
    values_T = tf.linalg.diag_part(rotated_TT)
    order_T = tf.argsort(values_T)
    return tf.gather(values_T, order_T), tf.gather(vectors_TT, order_T, axis=1)


def _between(vectors_TT: tf.Tensor, matrix_TT: tf.Tensor) -> tf.Tensor:
    """``Vᵀ A V``, exactly symmetric."""
    product_TT = tf.matmul(tf.matmul(vectors_TT, matrix_TT, transpose_a=True), vectors_TT)
    return (product_TT + tf.transpose(product_TT)) / 2


def _rotation(matrix_TT: tf.Tensor, partner_T: tf.Tensor) -> tf.Tensor:
    """The rotation of all pairs at once after which the element of each pair is 0."""
    size = matrix_TT.shape[0]
    chosen_TT = tf.one_hot(partner_T, size, dtype=matrix_TT.dtype)
    own_T = tf.linalg.diag_part(matrix_TT)
    element_T = tf.reduce_sum(chosen_TT * tf.linalg.set_diag(matrix_TT, tf.zeros_like(own_T)), axis=1)
    difference_T = tf.gather(own_T, partner_T) - own_T
    # The smaller of the two angles; the second of a pair turns by minus that of the first.
    first_T = (difference_T > 0) | (tf.equal(difference_T, 0) & (tf.range(size) < partner_T))
    root_T = tf.sqrt(difference_T**2 + 4 * element_T**2)
    tangent_T = 2 * element_T / tf.where(root_T > 0, tf.abs(difference_T) + root_T, tf.ones_like(root_T))
    tangent_T = tf.where(first_T, tangent_T, -tangent_T)
    cosine_T = 1 / tf.sqrt(1 + tangent_T**2)
    return tf.linalg.diag(cosine_T) + (cosine_T * tangent_T)[:, None] * chosen_TT


def _rounds(size: int) -> list[list[int]]:
    """A tournament: the opponent of each in each round, such that all pairs meet once; who has none meets itself."""
    odd = size - 1 + size % 2  # the last of an even number stays where it is, the others go round
    rounds = []
    for turn in range(odd):
        opponents = [(turn - player) % odd for player in range(odd)]
        if odd < size:
            alone = next(player for player, opponent in enumerate(opponents) if player == opponent)
            opponents[alone] = odd
            opponents.append(alone)
        rounds.append(opponents)
    return rounds
