"""MGDA: Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, eq. 3.

After Désidéri, "Multiple-gradient descent algorithm", 2012. With lower bounds, PE-LTR: Lin et al., "A Pareto-Efficient
Algorithm for Multiple Objective Optimization in E-Commerce Recommendation", RecSys 2019.

``min ‖Σ w_k g_k‖²`` over the simplex, or over its part ``w ≥ c``.

Where we differ: both authors' solvers are approximate (Frank-Wolfe steps; a relaxation that is then projected), ours
is exact. The part of the simplex above the bounds is a simplex again, with corners ``c + (1 − Σc) e_k``: the same
problem, for the gradients at its corners.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.geometry import geometry
from onehull.balance.presence import safe_divide, weight_one_outside
from onehull.balance.quadratic import minimize_nonnegative
from onehull.balance.types import Balancer, Heads, Needs, State, Stats

_SHORTEST = 1e-12
"""Of the longest gradient at a corner: what is shorter is taken to be this long."""


@dataclass(frozen=True)
class Mgda(Balancer):
    """The shortest convex combination of the gradients; weights sum to 1 and are 1/T where G = I.

    Heads: without bounds each head learns from its own loss, as in the paper of 2018; with bounds the head's loss is
    weighted, since PE-LTR minimises one weighted sum of losses over all variables.

    Args:
        lower_bounds: least weight of each task, in their order. Default: 0.
        normalize: compare directions: the solution is that of the gradients divided by their norms.
    """

    lower_bounds: tuple[float, ...] | None = None
    normalize: bool = False
    needs: ClassVar[Needs] = "gram"

    @property
    def heads(self) -> Heads:
        """Weighted under bounds; own without."""
        return "weighted" if any(self.lower_bounds or ()) else "own"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """No state.

        Raises:
            ValueError: there is not one bound a task, a bound is negative, or the bounds sum to more than 1.
        """
        bounds = self.lower_bounds
        if bounds is not None and len(bounds) != num_tasks:
            raise ValueError(f"Mgda.lower_bounds must have one bound for each of {num_tasks} tasks. Received {bounds}.")
        if bounds is not None and not (min(bounds) >= 0 and sum(bounds) <= 1 + 1e-9):
            raise ValueError(
                "Mgda.lower_bounds must be 0 or more and sum to at most 1, the total of the weights. "
                f"Received {bounds}, whose sum is {sum(bounds):g}. Lower some of them."
            )
        return {}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of the shortest combination."""
        known = geometry(stats)
        gram_TT = known.cosines_TT if self.normalize else known.gram_TT
        bounds = self.lower_bounds or (0.0,) * stats.losses_T.shape[0]
        bounds_T = tf.where(known.solved_T, tf.constant(bounds, tf.float64), tf.zeros_like(known.norms_T))
        corners_TT = (1 - tf.reduce_sum(bounds_T)) * tf.eye(len(bounds), dtype=tf.float64) + bounds_T
        weights_T = shortest(gram_TT, corners_TT, known.solved_T)
        if self.normalize:
            weights_T /= known.norms_T
        return weight_one_outside(weights_T, known.solved_T, stats.losses_T.dtype), dict(state)


def shortest(gram_TT: tf.Tensor, corners_TT: tf.Tensor, solved_T: tf.Tensor) -> tf.Tensor:
    """Weights ``(T,)`` of the shortest combination among the convex combinations of some rows of weights.

    Args:
        gram_TT: inner products of the gradients.
        corners_TT: rows of weights.
        solved_T: bool, the rows that take part.
    """
    at_corners_TT = tf.matmul(tf.matmul(corners_TT, gram_TT), corners_TT, transpose_b=True)
    lengths_T = tf.sqrt(tf.maximum(tf.linalg.diag_part(at_corners_TT), 0))
    longest = tf.reduce_max(tf.where(solved_T, lengths_T, tf.zeros_like(lengths_T)))
    # Lengths of 1 on the diagonal: short gradients would drown in the ridge of the solver.
    lengths_T = tf.where(solved_T & (longest > 0), tf.maximum(lengths_T, _SHORTEST * longest), tf.ones_like(lengths_T))
    matrix_TT = at_corners_TT / (lengths_T[:, None] * lengths_T)
    linear_T = -tf.cast(solved_T, gram_TT.dtype) / lengths_T
    shares_T = minimize_nonnegative(matrix_TT, linear_T[None, :])[0] / lengths_T
    shares_T = safe_divide(shares_T, tf.reduce_sum(shares_T))
    return tf.linalg.matvec(corners_TT, shares_T, transpose_a=True)
