"""GradCraft: Bai et al., "Elevating Multi-task Recommendations through Holistic Gradient Crafting", KDD 2024.

First magnitudes: ``ĝ_i = (τ M_max / M_i + 1 − τ) g_i``, with M the moving averages of the norms. Then directions: for
each task i, with c all tasks that ĝ_i conflicts with, ``g̃_i = ĝ_i + Σ_c a_j ĝ_j`` such that
``⟨g̃_i, ĝ_j⟩ = ε ‖ĝ_i‖ ‖ĝ_j‖`` for all of them at once. The update is the sum.

Where we differ from the authors' code: it takes the mean, whatever it is asked for; a task's average starts at its
first norm instead of 0; dependent gradients have the shortest solution, and no ε where none has it, instead of the
inverse of a singular matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.elimination import solve_within
from onehull.balance.geometry import Geometry, geometry
from onehull.balance.presence import weight_one_outside
from onehull.balance.quadratic import RIDGE
from onehull.balance.types import Balancer, Needs, State, Stats

_LARGEST = 1e4
"""Coefficients of a solution for ε above this belong to gradients for which there is none."""


@dataclass(frozen=True)
class GradCraft(Balancer):
    """Equal magnitudes, then no conflict of any task with any other; weights are 1 where G = I.

    Heads: each learns from its own loss, as the authors train.

    Args:
        tau: how far magnitudes are made equal, from 0 to 1.
        epsilon: cosine that is left where gradients were in conflict, from 0 to 1.
        decay: of the moving average of the magnitudes; 0 takes those of the step.
    """

    tau: float = 1.0
    epsilon: float = 0.0
    decay: float = 0.0
    needs: ClassVar[Needs] = "gram"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """Average norms; 0 for a task that had no gradient yet.

        Raises:
            ValueError: an argument is out of its range.
        """
        for name, value in (("tau", self.tau), ("epsilon", self.epsilon)):
            if not 0 <= value <= 1:
                raise ValueError(f"GradCraft.{name} must be from 0 to 1. Received {value}.")
        if not 0 <= self.decay < 1:
            raise ValueError(f"GradCraft.decay must be from 0 up to, not including, 1. Received {self.decay}.")
        return {"norms": tf.zeros((num_tasks,), tf.float32)}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of the sum of the crafted gradients."""
        known = geometry(stats)
        before_T = tf.cast(state["norms"], tf.float64)
        average_T = tf.where(before_T > 0, self.decay * before_T + (1 - self.decay) * known.norms_T, known.norms_T)
        largest = tf.reduce_max(tf.where(known.solved_T, average_T, tf.zeros_like(average_T)))
        factors_T = self.tau * largest / average_T + 1 - self.tau
        weights_T = factors_T * crafted_weights(known, factors_T * known.norms_T, self.epsilon)
        norms_T = tf.where(known.solved_T, tf.cast(average_T, tf.float32), state["norms"])
        return weight_one_outside(weights_T, known.solved_T, stats.losses_T.dtype), {"norms": norms_T}


def crafted_weights(known: Geometry, norms_T: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Weights ``(T,)`` of the sum after the second step.

    Args:
        known: geometry of the gradients; directions are the same before and after the first step.
        norms_T: lengths after the first step.
        epsilon: cosine that is left.
    """
    size = norms_T.shape[0]
    conflict_TT = known.cosines_TT < 0
    matrix_TT = known.cosines_TT + RIDGE * tf.eye(size, dtype=tf.float64)
    right_TT2 = tf.stack([-known.cosines_TT, tf.ones_like(matrix_TT)], axis=2)
    solution_TT2 = solve_within(matrix_TT, conflict_TT, right_TT2)
    apart_TT, towards_TT = tf.unstack(solution_TT2, axis=2)
    solvable_T1 = tf.reduce_max(tf.abs(towards_TT), axis=1, keepdims=True) < _LARGEST
    # Row i in lengths of ĝ_i, column j in unit vectors.
    mixture_TT = apart_TT + tf.where(solvable_T1, epsilon * towards_TT, tf.zeros_like(towards_TT))
    return 1 + tf.linalg.matvec(mixture_TT, norms_T, transpose_a=True) / norms_T
