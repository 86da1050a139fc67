"""Newton's method for fair progress: ``G w = w^(−1/α)``, the equation of Nash-MTL (α = 1) and FairGrad.

With the gradients' norms n and ``w = x / n`` it becomes ``C x = b x^(−1/α)`` for the cosines C and ``b = n^(1/α − 1)``:
what is left of the different sizes of the gradients is one factor a task. The left side minus the right one is the
slope of a convex function, and its Jacobian is positive definite, so that along Newton's direction the residual
falls at first; of a row of halved steps the one with the least residual is taken, all at once.
"""

from __future__ import annotations

import tensorflow as tf

from onehull.balance.elimination import solve_positive
from onehull.balance.geometry import Geometry, update_length
from onehull.balance.presence import safe_divide

RIDGE = 1e-8
"""Added to the cosines: where a combination of the gradients is zero, weights would be infinite."""

_STEPS = 100
_HALVINGS = 12
_CONVERGED = 1e-12
_TO_THE_BOUNDARY = 0.99
_LONGEST_PARTS = 10
"""Of ``max_norm`` and the gradients' lengths: the weighted gradients are no longer, even where they cancel."""

_NO_LENGTH = 1e-6
"""Of the weighted gradients' lengths: an update shorter than this is zero but for rounding."""


def fair_weights(known: Geometry, alpha: float, max_norm: float | None) -> tf.Tensor:
    """Weights ``(T,)`` with ``G w = w^(−1/α)``; 1 outside the solution.

    Args:
        known: geometry of the gradients.
        alpha: above 0.
        max_norm: longest update, in lengths of the plain sum of the gradients; a longer one is shortened to it, and
            so is one whose parts are ten times longer than that allows. None: any length.
    """
    powers_T = known.norms_T ** (1 / alpha - 1)
    # One factor for all keeps the numbers near 1, whatever the unit of the gradients.
    unit = tf.reduce_max(tf.where(known.solved_T, powers_T, tf.zeros_like(powers_T)))
    unit = tf.where(unit > 0, unit, tf.ones_like(unit))
    powers_T = tf.where(known.solved_T, powers_T / unit, tf.ones_like(powers_T))
    solution_T = fair_solution(known.cosines_TT, powers_T, alpha)
    weights_T = unit ** (alpha / (1 + alpha)) * solution_T / known.norms_T
    if max_norm is not None:
        weights_T *= _shortening(known, weights_T, max_norm)
    return tf.where(known.solved_T, weights_T, tf.ones_like(weights_T))


def fair_solution(matrix_TT: tf.Tensor, powers_T: tf.Tensor, alpha: float) -> tf.Tensor:
    """The x > 0 ``(T,)`` with ``(C + RIDGE) x = b x^(−1/α)``.

    Args:
        matrix_TT: C, positive semi-definite.
        powers_T: b, above 0.
        alpha: above 0.
    """
    matrix_TT += RIDGE * tf.eye(powers_T.shape[0], dtype=matrix_TT.dtype)
    steps_S1 = tf.constant([[0.5**power] for power in range(_HALVINGS)], matrix_TT.dtype)

    start_T = powers_T ** (alpha / (1 + alpha))  # the solution for C = I

    def residual(x_ST: tf.Tensor) -> tf.Tensor:
        return tf.matmul(x_ST, matrix_TT) - powers_T * x_ST ** (-1 / alpha)

    def newton(step: tf.Tensor, x_1T: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        slope_T = powers_T * x_1T[0] ** (-1 / alpha - 1) / alpha
        right_T1 = -tf.transpose(residual(x_1T))
        direction_1T = solve_positive((matrix_TT + tf.linalg.diag(slope_T))[None], right_T1[None])[:, :, 0]
        # The longest step that stays above 0, if the full one does not.
        boundary = tf.reduce_max(-direction_1T / x_1T)
        full = tf.minimum(_TO_THE_BOUNDARY / tf.maximum(boundary, _TO_THE_BOUNDARY), 1)
        tried_ST = x_1T + full * steps_S1 * direction_1T
        # In units of the start, or tasks with large gradients would be all that counts.
        best = tf.argmin(tf.reduce_sum((residual(tried_ST) / start_T) ** 2, axis=1))
        return step + 1, tf.gather(tried_ST, [best])

    def going(step: tf.Tensor, x_1T: tf.Tensor) -> tf.Tensor:
        relative_1T = residual(x_1T) * x_1T ** (1 / alpha) / powers_T
        return (step < _STEPS) & (tf.reduce_max(tf.abs(relative_1T)) > _CONVERGED)

    return tf.while_loop(going, newton, (tf.constant(0), start_T[None, :]))[1][0]


def _shortening(known: Geometry, weights_T: tf.Tensor, max_norm: float) -> tf.Tensor:
    """What to multiply the weights by, a scalar of at most 1.

    Near a point where a combination of the gradients is zero, weights are huge and their update is not. Heads whose
    losses are weighted have no such cancellation, therefore the parts of the update have a limit too.
    """
    norms_T = tf.where(known.solved_T, known.norms_T, tf.zeros_like(known.norms_T))
    gram_TT = known.gram_TT
    longest = max_norm * update_length(gram_TT, tf.ones_like(weights_T))
    length = update_length(gram_TT, weights_T)
    parts = tf.norm(weights_T * norms_T)
    of_update = tf.where(length > _NO_LENGTH * parts, safe_divide(longest, length), tf.ones_like(length))
    of_parts = safe_divide(_LONGEST_PARTS * max_norm * tf.norm(norms_T), parts)
    return tf.minimum(tf.minimum(of_update, of_parts), 1)
