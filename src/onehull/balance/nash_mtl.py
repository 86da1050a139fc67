"""Nash-MTL: Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, claim 3.1: ``G w = 1 / w``.

Where we differ from the authors' code: the equation is solved by Newton's method to rounding error, without the host
and without a sequence of approximations that starts from the last weights; G is not divided by its norm; and the cap
on the update is relative to the plain sum of the gradients, where theirs is the length 1 whatever the gradients are.
To compute weights at every n-th step is a wrapper here, and no part of the method.
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
class NashMtl(Balancer):
    """The Nash bargaining solution; weights are 1 where G = I, and one over the norms where it is diagonal.

    Heads: the loss is weighted for them too, as the authors train.

    Args:
        max_norm: longest update, in lengths of the plain sum of the gradients. None: as long as it comes, which is
            the root of the number of tasks whatever the length of the gradients.
    """

    max_norm: float | None = 1.0
    needs: ClassVar[Needs] = "gram"
    heads: ClassVar[Heads] = "weighted"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """No state.

        Raises:
            ValueError: max_norm is not positive.
        """
        del num_tasks
        if self.max_norm is not None and not self.max_norm > 0:
            raise ValueError(f"NashMtl.max_norm must be above 0, or None for no cap. Received {self.max_norm}.")
        return {}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of the bargaining solution."""
        known = geometry(stats)
        weights_T = fair_weights(known, 1.0, self.max_norm)
        return weight_one_outside(weights_T, known.solved_T, stats.losses_T.dtype), dict(state)
