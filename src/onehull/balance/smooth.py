"""Moving average of weights, as in CR-MOGM: Zhou et al., "On the Convergence of Stochastic MOGM", NeurIPS 2022.

Where we differ from the paper: the average starts at the first weights, not at a given point (its bias is divided
away), and a task's average moves only in the steps in which it has labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from onehull.balance.presence import safe_divide, weight_one_when_absent
from onehull.balance.types import State, Stats
from onehull.balance.wrapper import Wrapper


@dataclass(frozen=True)
class Smooth(Wrapper):
    """A moving average of the inner method's weights.

    Args:
        inner: the method.
        decay: share of the average that stays at each step; 0 takes the weights as they come.
    """

    decay: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"Smooth.decay must be from 0 to below 1. Received {self.decay}.")

    def own_state(self, shape: Sequence[int]) -> dict[str, tf.Tensor]:
        """Decayed sums of the weights, and of the ones that they are divided by."""
        return {"sum": tf.zeros(shape, tf.float32), "mass": tf.zeros(shape, tf.float32)}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The average that this step's weights are in."""
        weights_T, inner = self.inner_update(stats, state)
        parts = {"sum": tf.cast(weights_T, tf.float32), "mass": tf.ones_like(state["mass"])}
        own = {
            name: tf.where(stats.active_T, self.decay * state[name] + (1 - self.decay) * part_T, state[name])
            for name, part_T in parts.items()
        }
        mean_T = tf.cast(safe_divide(own["sum"], own["mass"]), stats.losses_T.dtype)
        return weight_one_when_absent(mean_T, stats.active_T), {**own, **inner}
