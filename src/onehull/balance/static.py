"""Static weights (linear scalarisation): fixed multipliers, the bar that every other method has to beat.

On the standing of this baseline: Kurin et al., "In Defense of the Unitary Scalarization for Deep Multi-Task
Learning", NeurIPS 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.presence import weight_one_when_absent
from onehull.balance.types import Balancer, Needs, State, Stats


@dataclass(frozen=True)
class Static(Balancer):
    """Fixed weights, in the order of the tasks.

    Args:
        weights: one weight a task. Default: 1 for every task, the plain sum of the losses.
    """

    weights: tuple[float, ...] | None = None
    needs: ClassVar[Needs] = "losses"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """No state.

        Raises:
            ValueError: the number of weights is not the number of tasks.
        """
        if self.weights is not None and len(self.weights) != num_tasks:
            raise ValueError(f"Static.weights must have one weight for each of {num_tasks} tasks. Got {self.weights}.")
        return {}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The fixed weights."""
        if self.weights is None:
            return tf.ones_like(stats.losses_T), dict(state)
        weights_T = tf.constant(self.weights, stats.losses_T.dtype)
        return weight_one_when_absent(weights_T, stats.active_T), dict(state)
