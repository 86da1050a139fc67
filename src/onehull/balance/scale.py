"""Weights with a given sum.

Methods differ in what their weights sum to, and with it in the learning rate that they mean; with one sum they can be
compared under the same learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from onehull.balance.presence import num_active, weight_one_when_absent
from onehull.balance.types import State, Stats
from onehull.balance.wrapper import Wrapper


@dataclass(frozen=True)
class Scale(Wrapper):
    """The inner method's weights, scaled so that those of the active tasks have a given sum.

    Weights whose sum is not positive stay as they are: scaling would turn the update around.

    Args:
        inner: the method.
        to: ``sum_to_tasks``, the number of active tasks, as in the plain sum; or ``sum_to_one``, as in a mean.
    """

    to: Literal["sum_to_tasks", "sum_to_one"] = "sum_to_tasks"

    def __post_init__(self) -> None:
        if self.to not in ("sum_to_tasks", "sum_to_one"):
            raise ValueError(f"Scale.to must be sum_to_tasks or sum_to_one. Received {self.to!r}.")

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The scaled weights."""
        weights_T, inner = self.inner_update(stats, state)
        present_T = tf.where(stats.active_T, weights_T, tf.zeros_like(weights_T))
        total = tf.reduce_sum(present_T, axis=-1, keepdims=True)
        wanted = num_active(stats.active_T, weights_T.dtype) if self.to == "sum_to_tasks" else 1.0
        one = tf.ones_like(total)
        factor = tf.where(total > 0, wanted / tf.where(total > 0, total, one), one)
        return weight_one_when_absent(weights_T * factor, stats.active_T), inner
