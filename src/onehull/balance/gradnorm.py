"""GradNorm: Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing", ICML 2018, eq. 1 and 2.

With ``n_k`` the norm of a task's gradient and ``r_k`` its relative pace, ``L_k / L_k(0)`` divided by the mean of these
over the tasks, the weights descend along the derivative of ``Σ_k |w_k·n_k − mean_j(w_j·n_j)·r_k^α|``, in which the
mean and the pace are constants. Then they are scaled back to their sum. A task that has come less far has a larger r,
and its gradient shall be longer.

Where we differ from the paper and from public code:

- ``n_k`` is taken at the level that was chosen, not at the weights of one layer;
- ``L_k(0)`` is given, or the mean of a task's first steps with labels: the first batch alone is noise;
- a weight never falls below 0.001: below 0 the scaling would turn signs around;
- plain gradient descent on the weights: with Adam the first steps have one size whatever the gap is;
- only tasks with labels in the batch move, and these are scaled back to the sum that they had, so that all weights
  always sum to the number of tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.first_steps import mean_loss, no_steps, with_step
from onehull.balance.presence import num_active, safe_divide, weight_one_when_absent
from onehull.balance.types import Balancer, Heads, Needs, State, Stats

_SMALLEST = 1e-3


@dataclass(frozen=True)
class GradNorm(Balancer):
    """Weights that learn to bring the gradients' norms to the tasks' paces; 1 for every task at the start.

    The weights multiply the losses, so the layers of a single task receive the weighted gradient too.

    Args:
        alpha: how strongly slower tasks are favoured; 0 makes all norms equal.
        learning_rate: step of the gradient descent on the weights, in weights for each unit of gradient norm.
        initial_losses: loss of each task before training, times its static weight. Default: measured.
        initial_steps: steps with labels whose mean loss is the initial one where none is given.
    """

    alpha: float = 1.5
    learning_rate: float = 0.025
    initial_losses: tuple[float, ...] | None = None
    initial_steps: int = 20
    needs: ClassVar[Needs] = "gram"
    heads: ClassVar[Heads] = "weighted"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """The weights, and the mean loss of each task's first steps.

        Raises:
            ValueError: the initial losses do not fit the tasks.
        """
        given = self.initial_losses
        if given is not None and (len(given) != num_tasks or not all(0 < loss < float("inf") for loss in given)):
            rule = f"must have one positive loss for each of {num_tasks} tasks"
            raise ValueError(f"GradNorm.initial_losses {rule}. Received {given}.")
        return {"weights": tf.ones((num_tasks,), tf.float32), **no_steps(num_tasks)}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The weights so far; then these descend a step."""
        first = with_step(stats, state, self.initial_steps)
        weights_T = state["weights"]
        norms_T = tf.sqrt(tf.maximum(tf.cast(tf.linalg.diag_part(stats.gram_TT), tf.float32), 0))
        target_T = self._target(stats, weights_T * norms_T, mean_loss(first))
        slope_T = norms_T * tf.sign(weights_T * norms_T - target_T)
        moved_T = tf.maximum(weights_T - self.learning_rate * slope_T, _SMALLEST)
        present_T = tf.cast(stats.active_T, tf.float32)
        scale = safe_divide(tf.reduce_sum(present_T * weights_T), tf.reduce_sum(present_T * moved_T))
        state_next = {"weights": tf.where(stats.active_T, scale * moved_T, weights_T), **first}
        return weight_one_when_absent(tf.cast(weights_T, stats.losses_T.dtype), stats.active_T), state_next

    def _target(self, stats: Stats, lengths_T: tf.Tensor, measured_T: tf.Tensor) -> tf.Tensor:
        """The norm that each weighted gradient shall have."""
        initial_T = measured_T if self.initial_losses is None else tf.constant(self.initial_losses, tf.float32)
        left_T = safe_divide(tf.maximum(tf.cast(stats.losses_T, tf.float32), 0), initial_T)
        present_T = tf.cast(stats.active_T, tf.float32)
        count = num_active(stats.active_T, tf.float32)
        pace_T = safe_divide(left_T, tf.reduce_sum(present_T * left_T) / count)
        return tf.reduce_sum(present_T * lengths_T) / count * pace_T**self.alpha
