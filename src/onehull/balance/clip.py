"""Bounded weights."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from onehull.balance.presence import weight_one_when_absent
from onehull.balance.types import State, Stats
from onehull.balance.wrapper import Wrapper


@dataclass(frozen=True)
class Clip(Wrapper):
    """The inner method's weights, cut at a largest size.

    Args:
        inner: the method.
        largest: bound of a weight; a negative one is cut at minus this.
    """

    largest: float = 10.0

    def __post_init__(self) -> None:
        if not self.largest > 0:
            raise ValueError(f"Clip.largest must be above 0. Received {self.largest}.")

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The weights between the bounds."""
        weights_T, inner = self.inner_update(stats, state)
        clipped_T = tf.clip_by_value(weights_T, -self.largest, self.largest)
        return weight_one_when_absent(clipped_T, stats.active_T), inner
