"""FAMO: Liu et al., "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023.

With ``z = softmax(ξ)`` the weights are ``w_k = c·z_k / L_k``, ``c = 1 / Σ_j z_j/L_j``: a step that decreases the
logarithm of every loss at the rates z. After the step the same batch is evaluated again, and ξ moves, by Adam, against
``J_softmax(ξ)ᵀ·δ + decay·ξ`` with ``δ_k = log L_k(before) − log L_k(after)``, so that tasks that came less far weigh
more.

Where we differ from the authors' code: a task without labels in the batch is outside of the softmax, has δ = 0, and
keeps its ξ and the moments of Adam; losses below 1e-8 count as 1e-8; the bound of the gradient's norm is the
optimizer's affair; the lowest possible losses, which are subtracted there, are 0. Without the second evaluation the
next batch with labels of a task stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.positive import positive
from onehull.balance.presence import active_softmax, safe_divide, weight_one_when_absent
from onehull.balance.types import Balancer, Needs, State, Stats

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8
"""Adam's usual constants."""


@dataclass(frozen=True)
class Famo(Balancer):
    """Weights that give all tasks the same relative progress; they sum to 1 over the active tasks.

    Args:
        learning_rate: Adam's, for ξ.
        decay: pulls ξ back to equal rates.
        same_batch: evaluate the same batch again after the step. Otherwise a task's loss in the next batch that has
            its labels stands for it: no second evaluation, but noise that does not come from the step.
    """

    learning_rate: float = 0.025
    decay: float = 1e-3
    same_batch: bool = True
    needs: ClassVar[Needs] = "losses"

    @property
    def reevaluates(self) -> bool:
        """Whether the same batch is evaluated again."""
        return self.same_batch

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """The logits ξ with Adam's moments and counts of steps; each task's last loss, 0 while there is none."""
        zeros_T = tf.zeros((num_tasks,), tf.float32)
        state = dict.fromkeys(("logits", "moment_1", "moment_2", "moves"), zeros_T)
        return state if self.same_batch else {**state, "last": zeros_T}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of the logits, which move first where this batch stands for a second look at the last."""
        state_next = dict(state) if self.same_batch else self._from_last(stats, state)
        losses_T = positive(stats.losses_T)
        rates_T = active_softmax(tf.cast(state_next["logits"], losses_T.dtype), stats.active_T)
        quotients_T = tf.where(stats.active_T, rates_T / losses_T, tf.zeros_like(losses_T))
        weights_T = safe_divide(quotients_T, tf.reduce_sum(quotients_T))
        return weight_one_when_absent(weights_T, stats.active_T), state_next

    def observe(self, losses_T: tf.Tensor, stats: Stats, state: State) -> dict[str, tf.Tensor]:
        """The logits after a step of Adam along the progress of this batch."""
        if not self.same_batch:
            return dict(state)
        return self._moved(stats.losses_T, losses_T, stats.active_T, state)

    def _from_last(self, stats: Stats, state: State) -> dict[str, tf.Tensor]:
        """The state after this batch was taken for the second look."""
        known_T = stats.active_T & (state["last"] > 0)
        moved = self._moved(state["last"], stats.losses_T, known_T, state)
        last_T = tf.where(stats.active_T, positive(tf.cast(stats.losses_T, tf.float32)), state["last"])
        return {**moved, "last": last_T}

    def _moved(self, before_T: tf.Tensor, after_T: tf.Tensor, known_T: tf.Tensor, state: State) -> dict[str, tf.Tensor]:
        """A step of Adam for the tasks whose progress is known."""
        known_T &= tf.math.is_finite(after_T)
        before_T, after_T = (positive(tf.cast(losses_T, tf.float32)) for losses_T in (before_T, after_T))
        progress_T = tf.where(known_T, tf.math.log(before_T) - tf.math.log(after_T), tf.zeros_like(before_T))
        rates_T = active_softmax(state["logits"], known_T)
        slope_T = rates_T * (progress_T - tf.reduce_sum(rates_T * progress_T)) + self.decay * state["logits"]
        moment_1_T = _BETA_1 * state["moment_1"] + (1 - _BETA_1) * slope_T
        moment_2_T = _BETA_2 * state["moment_2"] + (1 - _BETA_2) * slope_T**2
        moves_T = state["moves"] + 1
        length_T = tf.sqrt(moment_2_T / (1 - _BETA_2**moves_T)) + _EPSILON
        logits_T = state["logits"] - self.learning_rate * moment_1_T / (1 - _BETA_1**moves_T) / length_T
        moved = {"logits": logits_T, "moment_1": moment_1_T, "moment_2": moment_2_T, "moves": moves_T}
        return {**state, **{name: tf.where(known_T, value, state[name]) for name, value in moved.items()}}
