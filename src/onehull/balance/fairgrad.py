"""FairGrad: Ban and Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024: ``G w = w^(−1/α)``.

Where we differ from the authors' code: Newton's method in place of SciPy's least squares on the host, which for short
gradients stops where it starts; the update is not multiplied by the number of tasks; and the cap on the update is
relative to the plain sum of the gradients, where theirs is the length 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.geometry import geometry
from onehull.balance.newton import fair_weights
from onehull.balance.presence import weight_one_outside
from onehull.balance.types import Balancer, Heads, Needs, State, Stats


@dataclass(frozen=True)
class FairGrad(Balancer):
    """α-fair progress of the tasks; weights are 1 where G = I.

    Heads: the loss is weighted for them too, as with Nash-MTL, whose equation this is for α = 1.

    Args:
        alpha: near 0 the plain sum, 1 Nash-MTL, large ones the best worst task.
        max_norm: longest update, in lengths of the plain sum of the gradients. None: as long as it comes.
    """

    alpha: float = 2.0
    max_norm: float | None = 1.0
    needs: ClassVar[Needs] = "gram"
    heads: ClassVar[Heads] = "weighted"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """No state.

        Raises:
            ValueError: alpha or max_norm is not positive.
        """
        del num_tasks
        if not self.alpha > 0:
            raise ValueError(f"FairGrad.alpha must be above 0. Received {self.alpha}.")
        if self.max_norm is not None and not self.max_norm > 0:
            raise ValueError(f"FairGrad.max_norm must be above 0, or None for no cap. Received {self.max_norm}.")
        return {}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of fair progress."""
        known = geometry(stats)
        weights_T = fair_weights(known, self.alpha, self.max_norm)
        return weight_one_outside(weights_T, known.solved_T, stats.losses_T.dtype), dict(state)
