"""Geometric loss strategy: Chennupati et al., "MultiNet++", CVPR workshops 2019.

The objective is the geometric mean ``(Π_k L_k)^(1/K)`` of the losses of the K tasks with labels. Its derivative by
``L_k`` is the weight: the geometric mean divided by ``K·L_k``.

Where we differ from the paper: losses below 1e-8 count as 1e-8, since a single loss of 0 would stop all tasks. The
paper's focus on some tasks (products of further powers) is what static weights cannot do here: a factor of a loss
cancels in the direction of the update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.positive import positive
from onehull.balance.presence import num_active, weight_one_when_absent
from onehull.balance.types import Balancer, Needs, State, Stats


@dataclass(frozen=True)
class Gls(Balancer):
    """Weights inverse to the losses; 1/K for each of K active tasks whose losses are equal."""

    needs: ClassVar[Needs] = "losses"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """No state."""
        del num_tasks
        return {}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The derivative of the geometric mean of the active tasks' losses."""
        logs_T = tf.math.log(positive(stats.losses_T))
        count = num_active(stats.active_T, logs_T.dtype)
        mean = tf.reduce_sum(tf.where(stats.active_T, logs_T, tf.zeros_like(logs_T))) / count
        return weight_one_when_absent(tf.exp(mean - logs_T) / count, stats.active_T), dict(state)
