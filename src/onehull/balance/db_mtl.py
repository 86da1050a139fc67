"""DB-MTL: Lin et al., "Dual-Balancing for Multi-Task Learning", 2023 (arXiv 2308.12029), algorithm 1.

Losses are balanced by their logarithms, whose gradients are ``g_k / L_k``; these are all brought to the length of the
longest: ``w_k = max_j (n_j / L_j) / n_k``.

Where we differ: the paper takes a moving average of each task's gradient, a state of T times the number of shared
parameters; here it is the gradients of the step, the case β = 0, for which norms and losses are enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.geometry import geometry
from onehull.balance.presence import weight_one_outside
from onehull.balance.types import Balancer, Needs, State, Stats

_SMALLEST_LOSS = 1e-8
"""Smaller losses are taken to be this large, as in the authors' code; negative ones have no logarithm."""


@dataclass(frozen=True)
class DbMtl(Balancer):
    """Log losses, and gradients as long as the longest; where G = I, weights are 1 over the least loss.

    Without ``log`` they are 1 there. Losses must be positive.

    Heads: each learns from its own loss. (From its logarithm in the paper: the same but for a factor, which optimisers
    of Adam's kind remove.)

    Args:
        log: balance the gradients of the logarithms of the losses.
    """

    log: bool = True
    needs: ClassVar[Needs] = "gram"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """No state."""
        del num_tasks
        return {}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights that make all gradients equally long."""
        known = geometry(stats)
        lengths_T = known.norms_T
        if self.log:
            lengths_T /= tf.maximum(tf.cast(stats.losses_T, tf.float64), _SMALLEST_LOSS)
        longest = tf.reduce_max(tf.where(known.solved_T, lengths_T, tf.zeros_like(lengths_T)))
        weights_T = longest / known.norms_T
        return weight_one_outside(weights_T, known.solved_T, stats.losses_T.dtype), dict(state)
