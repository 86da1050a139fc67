"""Static weights (linear scalarisation): fixed multipliers, the bar that every other method has to beat.

On the standing of this baseline: Kurin et al., "In Defense of the Unitary Scalarization for Deep Multi-Task
Learning", NeurIPS 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import tensorflow as tf

from onehull.balance.first_steps import mean_loss, no_steps, with_step
from onehull.balance.presence import weight_one_when_absent
from onehull.balance.types import Balancer, Needs, State, Stats


@dataclass(frozen=True)
class Static(Balancer):
    """Fixed weights, in the order of the tasks.

    Args:
        weights: one weight a task. Default: 1 for every task, the plain sum of the losses.
        reference: ``initial`` divides each weight by the mean loss of the task's first steps with labels (of those so
            far, until there are enough); ``none`` divides by nothing.
        reference_steps: steps that ``initial`` looks at.
    """

    weights: tuple[float, ...] | None = None
    reference: Literal["none", "initial"] = "none"
    reference_steps: int = 20
    needs: ClassVar[Needs] = "losses"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """The mean loss of each task's first steps; nothing without a reference.

        Raises:
            ValueError: the weights do not fit the tasks, a weight is negative or not finite, or the reference is not
                known.
        """
        given = self.weights
        if given is not None and len(given) != num_tasks:
            raise ValueError(f"Static.weights must have one weight for each of {num_tasks} tasks. Received {given}.")
        if given is not None and not all(weight >= 0 and math.isfinite(weight) for weight in given):
            raise ValueError(f"Static.weights must be numbers from 0 up. Received {given}.")
        if self.reference not in ("none", "initial"):
            raise ValueError(f"Static.reference must be none or initial. Received {self.reference!r}.")
        return {} if self.reference == "none" else no_steps(num_tasks)

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The fixed weights, over the reference."""
        weights_T = tf.ones_like(stats.losses_T)
        if self.weights is not None:
            weights_T = tf.constant(self.weights, stats.losses_T.dtype)
        if self.reference == "none":
            return weight_one_when_absent(weights_T, stats.active_T), dict(state)
        state_next = with_step(stats, state, self.reference_steps)
        reference_T = tf.cast(mean_loss(state_next), weights_T.dtype)
        # A loss that was 0 from the first step on has nothing to be compared with.
        weights_T = tf.where(reference_T > 0, weights_T / tf.where(reference_T > 0, reference_T, 1), weights_T)
        return weight_one_when_absent(weights_T, stats.active_T), state_next
