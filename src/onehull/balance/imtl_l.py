"""IMTL-L: Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021 (its balance of losses).

The objective is ``Σ_k exp(s_k)·L_k − s_k``: the weight is ``exp(s_k)``, and ``s_k`` descends along
``exp(s_k)·L_k − 1``. It rests where every weighted loss is 1, at ``s_k = −log L_k``.

Where we differ from the authors: s is state of the method with plain gradient descent of its own instead of a weight
under the model's optimizer; it is capped; only tasks with labels in the batch move. The authors' other half, the
balance of gradients, is the method ``imtl_g``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.presence import weight_one_when_absent
from onehull.balance.types import Balancer, Needs, State, Stats


@dataclass(frozen=True)
class ImtlL(Balancer):
    """Weights that learn to make every loss as large as 1; 1 for every task at the start.

    Args:
        learning_rate: step of the gradient descent on the logarithms of the weights.
        cap: these logarithms stay between ``-cap`` and ``cap``.
    """

    learning_rate: float = 0.01
    cap: float = 3.0
    needs: ClassVar[Needs] = "losses"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """The logarithms of the weights."""
        return {"log_weight": tf.zeros((num_tasks,), tf.float32)}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The weights so far; then their logarithms descend a step."""
        log_weight_T = state["log_weight"]
        weights_T = tf.exp(log_weight_T)
        slope_T = weights_T * tf.cast(stats.losses_T, tf.float32) - 1
        moved_T = tf.clip_by_value(log_weight_T - self.learning_rate * slope_T, -self.cap, self.cap)
        state_next = {"log_weight": tf.where(stats.active_T, moved_T, log_weight_T)}
        return weight_one_when_absent(tf.cast(weights_T, stats.losses_T.dtype), stats.active_T), state_next
