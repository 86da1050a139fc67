"""ConFIG: Liu, Chu, Thuerey, "Towards Conflict-free Training of Physics Informed Neural Networks", ICLR 2025.

The update has the same cosine with every gradient, and as its length the sum of its projections:
``d̂ = norm(U⁺ 1)`` with the unit gradients in the rows of U, ``d = (Σ ⟨g_k, d̂⟩) d̂``. With the cosines C and
``b = C⁺ 1`` that is ``w_k = (Σ n_j (C b)_j) / (bᵀ C b) · b_k / n_k``: no more than inner products is needed.

Where we differ from the authors' code: it solves a least-squares problem of the gradients' size that must have full
rank; the pseudo-inverse of the cosines needs none. Where no direction has positive cosines with the gradients, as for
two opposite ones, all weights are 0 instead of noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.geometry import geometry
from onehull.balance.presence import weight_one_outside
from onehull.balance.types import Balancer, Needs, State, Stats

_NO_DIRECTION = 1e-10
"""A sum of b below this is the noise of a direction that does not exist."""


@dataclass(frozen=True)
class ConFig(Balancer):
    """Equal cosines with all gradients; weights are 1 where G = I.

    Heads: each learns from its own loss; the paper has no layers of a single task.
    """

    needs: ClassVar[Needs] = "gram"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """No state."""
        del num_tasks
        return {}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of the direction of equal cosines, times its length."""
        known = geometry(stats)
        inside_T = tf.cast(known.solved_T, tf.float64)
        part_T = tf.linalg.matvec(known.vectors_TT, inside_T, transpose_a=True)
        range_T = tf.where(known.values_T > 0, part_T, tf.zeros_like(part_T))
        solution_T = tf.linalg.matvec(known.vectors_TT, range_T / tf.where(known.values_T > 0, known.values_T, 1))
        cosines_T = tf.linalg.matvec(known.vectors_TT, range_T)
        # bᵀ C b = 1ᵀ C⁺ C C⁺ 1 = Σ b.
        total = tf.reduce_sum(inside_T * solution_T)
        exists = total > _NO_DIRECTION
        length = tf.reduce_sum(inside_T * known.norms_T * cosines_T) / tf.where(exists, total, tf.ones_like(total))
        weights_T = tf.where(exists, length * solution_T / known.norms_T, tf.zeros_like(solution_T))
        return weight_one_outside(weights_T, known.solved_T, stats.losses_T.dtype), dict(state)
