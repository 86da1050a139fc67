"""Random loss weighting: Lin et al., "Reasonable Effectiveness of Random Weighting", TMLR 2022.

``w = K·softmax(z)`` with a standard normal z for each task, drawn anew at each step.

Where we differ from the paper: its weights sum to 1, ours to the number K of active tasks, so that the mean step is
that of the plain sum and learning rates can be compared (``scale: sum_to_one`` gives the paper's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.draws import random_normals
from onehull.balance.presence import active_softmax, num_active, weight_one_when_absent
from onehull.balance.types import Balancer, Needs, State, Stats


@dataclass(frozen=True)
class Rlw(Balancer):
    """Random weights, a test of what balancing has to beat; each has mean 1.

    Args:
        seed: seed of the weights; the same seed and step give the same weights.
    """

    seed: int = 0
    needs: ClassVar[Needs] = "losses"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """The seed of the next draw: a number and a count of steps."""
        del num_tasks
        return {"seed": tf.constant([self.seed, 0], tf.int64)}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The weights of a draw of its own."""
        normal_T = tf.cast(random_normals(state["seed"], stats.losses_T.shape[0]), stats.losses_T.dtype)
        weights_T = num_active(stats.active_T, normal_T.dtype) * active_softmax(normal_T, stats.active_T)
        state_next = {"seed": state["seed"] + tf.constant([0, 1], tf.int64)}
        return weight_one_when_absent(weights_T, stats.active_T), state_next
