"""Smooth Tchebycheff: Lin et al., "Smooth Tchebycheff Scalarization for Multi-Objective Optimization", ICML 2024.

In the form of the paper's multi-task experiments the objective is ``K·μ·log Σ_k (L_k / N_k)^(1/μ)``, a smooth maximum
of the logarithms of the K active tasks' losses relative to a reference ``N_k``; the weight is its derivative,
``K·softmax(log(L/N) / μ)_k / L_k``.

Where we differ from the authors' code: the reference is the mean over a task's first steps with labels, not over
four epochs, because ranking models see their data once or a few times; until these steps are complete it is the mean
of those so far, where the authors minimise the sum of the logarithms (near to it, as L/N is near 1 then); it is
state, so that an interrupted training continues with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.first_steps import mean_loss, no_steps, with_step
from onehull.balance.positive import positive
from onehull.balance.presence import active_softmax, num_active, weight_one_when_absent
from onehull.balance.types import Balancer, Needs, State, Stats


@dataclass(frozen=True)
class Stch(Balancer):
    """Tasks that have come least far from their reference weigh most; ``1/L`` where all have come equally far.

    Args:
        temperature: smoothness μ; towards 0 only the worst task is left, with large values all weigh ``1/L``.
        warmup_steps: steps with labels whose mean loss is the reference.
    """

    temperature: float = 1.0
    warmup_steps: int = 1000
    needs: ClassVar[Needs] = "losses"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """The mean loss of each task's first steps."""
        return no_steps(num_tasks)

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The derivative of the smooth maximum, with this step in the reference while the warm-up lasts."""
        state_next = with_step(stats, state, self.warmup_steps)
        losses_T = positive(stats.losses_T)
        reference_T = positive(tf.cast(mean_loss(state_next), losses_T.dtype))
        scores_T = tf.math.log(losses_T / reference_T) / self.temperature
        weights_T = num_active(stats.active_T, losses_T.dtype) * active_softmax(scores_T, stats.active_T) / losses_T
        return weight_one_when_absent(weights_T, stats.active_T), state_next
