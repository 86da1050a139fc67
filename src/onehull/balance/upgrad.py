"""UPGrad: Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024 (arXiv 2406.16232), section 3.

Each gradient, times one over the number of tasks, is projected on the cone of directions in which no loss rises; the
update is the sum of the projections.

Where we differ from the authors' code (TorchJD): the projections are exact. Theirs adds 1e-4 to the diagonal of a
normalised Gram matrix and calls a solver on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.geometry import Geometry, geometry
from onehull.balance.presence import weight_one_outside
from onehull.balance.quadratic import minimize_nonnegative
from onehull.balance.types import Balancer, Needs, State, Stats


@dataclass(frozen=True)
class UpGrad(Balancer):
    """Sum of the gradients projected where no task gets worse; weights are 1/T where nothing conflicts (G = I).

    Heads: each learns from its own loss, as the authors train.
    """

    needs: ClassVar[Needs] = "gram"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """No state."""
        del num_tasks
        return {}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Sum of the weights of the projections, one for each task."""
        known = geometry(stats)
        weights_T = tf.reduce_sum(projected(known, tf.linalg.diag(known.share_T)), axis=0)
        return weight_one_outside(weights_T, known.solved_T, stats.losses_T.dtype), dict(state)


def projected(known: Geometry, weights_BT: tf.Tensor) -> tf.Tensor:
    """Weights ``(B, T)`` of the projections of ``Σ w_k g_k`` on ``{d: ⟨g_k, d⟩ ≥ 0 for all k}``.

    The projection adds to the weights the x ≥ 0 that makes the sum shortest (proposition 1 of the paper).

    Args:
        known: geometry of the gradients.
        weights_BT: weights of the vectors to project; 0 outside the solution.
    """
    linear_BT = tf.matmul(weights_BT * known.norms_T, known.cosines_TT)
    linear_BT = tf.where(known.solved_T, linear_BT, tf.zeros_like(linear_BT))
    return weights_BT + minimize_nonnegative(known.cosines_TT, linear_BT) / known.norms_T
