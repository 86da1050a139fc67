"""Uncertainty weighting: Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018, eq. 7.

The objective is ``Σ_k ½·exp(−s_k)·L_k + ½·s_k`` with the log variance ``s_k = log σ_k²``, so the weight is
``½·exp(−s_k)``, and ``s_k`` descends along ``½ − ½·exp(−s_k)·L_k``. It rests at ``s_k = log L_k``: the objective is
then ``½·Σ(1 + log L_k)``, the same family as GLS and IMTL-L.

Where we differ from the paper and from public code:

- the paper has ``exp(−s)`` without the half for classification; the half is used for all losses, so that the kind of
  a task does not double its weight;
- s is state of the method with plain gradient descent of its own, not a weight of the model: the model's optimizer,
  its decay and its clipping do not touch it;
- s is capped, and only tasks with labels in the batch move. Without a cap a rare event with its tiny log loss gets a
  weight of 1/(2L).

Variants that are not here: ``log(1 + exp(s))`` as regulariser (Liebel and Körner, 2018), which keeps the objective
positive, and the closed form ``softmax((1/L)/temperature)`` (Kirchdorfer et al., 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.presence import weight_one_when_absent
from onehull.balance.types import Balancer, Needs, State, Stats


@dataclass(frozen=True)
class Uw(Balancer):
    """Weights that learn to be half of the inverse loss; ½ for every task at the start.

    Args:
        learning_rate: step of the gradient descent on the log variances.
        start: first log variance of every task.
        cap: log variances stay between ``-cap`` and ``cap``.
    """

    learning_rate: float = 0.01
    start: float = 0.0
    cap: float = 3.0
    needs: ClassVar[Needs] = "losses"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """The log variances.

        Raises:
            ValueError: the start is not within the cap.
        """
        if not abs(self.start) <= self.cap:
            raise ValueError(f"Uw.start must be between -cap and cap = {self.cap}. Received {self.start}.")
        return {"log_variance": tf.fill((num_tasks,), tf.constant(self.start, tf.float32))}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of the log variances so far; then these descend a step."""
        log_variance_T = state["log_variance"]
        weights_T = tf.exp(-log_variance_T) / 2
        slope_T = 0.5 - weights_T * tf.cast(stats.losses_T, tf.float32)
        moved_T = tf.clip_by_value(log_variance_T - self.learning_rate * slope_T, -self.cap, self.cap)
        state_next = {"log_variance": tf.where(stats.active_T, moved_T, log_variance_T)}
        return weight_one_when_absent(tf.cast(weights_T, stats.losses_T.dtype), stats.active_T), state_next
