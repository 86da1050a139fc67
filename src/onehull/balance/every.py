"""Weights that hold for several steps, as in Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022.

What is saved is the method's solution, by a branch that is really not taken, also under XLA. The statistics are
there at every step: the trainer computes them without looking into a balancer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from onehull.balance.presence import weight_one_when_absent
from onehull.balance.types import State, Stats
from onehull.balance.wrapper import Wrapper, as_inner, inner_state


@dataclass(frozen=True)
class Every(Wrapper):
    """The inner method at the first of every n steps; its weights are kept in between.

    A task without labels at that step keeps the weight that it has from before, 1 at first.

    Args:
        inner: the method.
        steps: n.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Every.steps must be at least 1. Received {self.steps}.")

    def own_state(self, shape: Sequence[int]) -> dict[str, tf.Tensor]:
        """The weights, and the steps since they were computed."""
        return {"weights": tf.ones(shape, tf.float32), "age": tf.zeros((), tf.int32)}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """New weights, or the ones that are kept."""
        kept_T, inner = tf.cond(
            tf.equal(state["age"], 0),
            lambda: self._renewed(stats, state),
            lambda: (tf.identity(state["weights"]), as_inner(inner_state(state))),
        )
        weights_T = weight_one_when_absent(tf.cast(kept_T, stats.losses_T.dtype), stats.active_T)
        return weights_T, {"weights": kept_T, "age": (state["age"] + 1) % self.steps, **inner}

    def observe(self, losses_T: tf.Tensor, stats: Stats, state: State) -> dict[str, tf.Tensor]:
        """The second look counts for the steps that weights were computed for."""
        look = super().observe
        renewed = tf.equal(state["age"], 1 % self.steps)
        return tf.cond(renewed, lambda: look(losses_T, stats, state), lambda: dict(state))

    def _renewed(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        weights_T, inner = self.inner_update(stats, state)
        return tf.where(stats.active_T, tf.cast(weights_T, tf.float32), state["weights"]), inner
