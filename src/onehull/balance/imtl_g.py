"""IMTL-G: Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021, section 3.1.

The update whose projections on all gradients' directions are equal: ``G w ∝ n`` with ``n`` the norms, ``Σ w = 1``.

Where we differ from the authors' code: it inverts a matrix of differences, which is singular as soon as two gradients
are parallel. Here ``w ∝ G⁺n``; where ``G w = n`` has no solution, because the gradients depend on each other in such a
way that only the projection 0 can be equal, ``w`` is the part of n that G maps to zero. Where the sum of w nearly
cancels, dividing by it would give huge weights of both signs: the weights are equal then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.geometry import Geometry, geometry
from onehull.balance.presence import safe_divide, weight_one_outside
from onehull.balance.types import Balancer, Needs, State, Stats

_CANCELLING = 0.01
"""Of the sum of the weights' sizes: a smaller sum of the weights is not divided by."""

_INCONSISTENT = 1e-4
"""Of the norms' length: a longer part outside the range of G means that G w = n has no solution."""


@dataclass(frozen=True)
class ImtlG(Balancer):
    """Equal projections on all gradients; weights sum to 1, some may be negative, and they are 1/T where G = I.

    Heads: each learns from its own loss, as in the paper.
    """

    needs: ClassVar[Needs] = "gram"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """No state."""
        del num_tasks
        return {}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of the update with equal projections."""
        known = geometry(stats)
        weights_T = equal_projections(known)
        total = tf.reduce_sum(weights_T)
        cancelling = tf.abs(total) < _CANCELLING * tf.reduce_sum(tf.abs(weights_T))
        weights_T = tf.where(cancelling, known.share_T, safe_divide(weights_T, total))
        return weight_one_outside(weights_T, known.solved_T, stats.losses_T.dtype), dict(state)


def equal_projections(known: Geometry) -> tf.Tensor:
    """Weights ``(T,)`` of an update with equal projections, up to a factor; 0 outside the solution."""
    inside_T = tf.cast(known.solved_T, tf.float64)
    # Independent gradients: through the cosines, which do not suffer from gradients of very different lengths.
    cosine_part_T = tf.linalg.matvec(known.vectors_TT, inside_T, transpose_a=True)
    direct_T = tf.linalg.matvec(known.vectors_TT, safe_divide(cosine_part_T, known.values_T)) / known.norms_T

    norms_T = inside_T * known.norms_T
    values_T, vectors_TT = known.gram_spectrum()
    part_T = tf.linalg.matvec(vectors_TT, norms_T, transpose_a=True)
    outside_T = norms_T - tf.linalg.matvec(vectors_TT, tf.where(values_T > 0, part_T, tf.zeros_like(part_T)))
    shortest_T = tf.linalg.matvec(vectors_TT, safe_divide(part_T, values_T))
    no_solution = tf.norm(outside_T) > _INCONSISTENT * tf.norm(norms_T)
    dependent_T = inside_T * tf.where(no_solution, outside_T, shortest_T)
    return tf.where(tf.reduce_all(known.values_T > 0), direct_T, dependent_T)
