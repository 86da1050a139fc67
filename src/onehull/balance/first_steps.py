"""The mean loss of each task over its first steps with labels, in a balancer's state.

Shapes: ``T`` tasks.
"""

from __future__ import annotations

import tensorflow as tf

from onehull.balance.presence import safe_divide
from onehull.balance.types import State, Stats


def no_steps(num_tasks: int) -> dict[str, tf.Tensor]:
    """The state before the first step."""
    zeros_T = tf.zeros((num_tasks,), tf.float32)
    return {"first_sum": zeros_T, "first_count": zeros_T}


def with_step(stats: Stats, state: State, steps: int) -> dict[str, tf.Tensor]:
    """The state with this step's losses, for the tasks that have labels in it and fewer than ``steps`` so far."""
    taken_T = tf.cast(stats.active_T & (state["first_count"] < steps), tf.float32)
    return {
        "first_sum": state["first_sum"] + taken_T * tf.cast(stats.losses_T, tf.float32),
        "first_count": state["first_count"] + taken_T,
    }


def mean_loss(state: State) -> tf.Tensor:
    """Mean loss ``(T,)`` of the steps so far, float32; 0 for a task that had no labels yet."""
    return safe_divide(state["first_sum"], state["first_count"])
