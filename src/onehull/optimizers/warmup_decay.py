"""Learning rates that rise in a warm-up and fall after it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from onehull.errors import suggest
from onehull.optimizers.ranges import at_least, below_one

DECAYS: dict[str, Callable[[tf.Tensor, float], tf.Tensor]] = {
    "constant": lambda progress, _end: tf.ones_like(progress),
    # Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, without restarts
    "cosine": lambda progress, end: end + (1 - end) * (1 + tf.cos(math.pi * tf.minimum(progress, 1))) / 2,
    "linear": lambda progress, end: 1 - (1 - end) * tf.minimum(progress, 1),
    "exponential": lambda progress, end: end ** tf.minimum(progress, 1),
    "inverse_sqrt": lambda progress, end: tf.maximum(tf.math.rsqrt(1 + progress), end),
}
"""(steps after the warm-up / decay steps, smallest factor) → factor of the learning rate, by the name of the kind."""


@keras.saving.register_keras_serializable(package="onehull")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises along a line from 0 and falls after that.

    The first step has ``1 / warmup_steps`` of the rate: a step with a rate of 0 would be lost.

    Args:
        learning_rate: the largest rate.
        kind: how it falls, see `DECAYS`.
        warmup_steps: steps in which it rises.
        decay_steps: steps after the warm-up in which it falls; of no meaning to ``constant``.
        end: smallest factor after the warm-up, in [0, 1).

    Raises:
        ValueError: the kind is not known, or a number is out of its range.
    """

    def __init__(
        self,
        learning_rate: float,
        kind: str = "constant",
        warmup_steps: int = 0,
        decay_steps: int = 1,
        end: float = 0.0,
    ) -> None:
        super().__init__()
        if kind not in DECAYS:
            known = suggest(kind, list(DECAYS))
            raise ValueError(f"WarmupDecay.kind must name a kind of decay. Received {kind!r}. {known}")
        self.kind = kind
        self.learning_rate = at_least(self, "learning_rate", learning_rate, 0)
        self.warmup_steps = at_least(self, "warmup_steps", warmup_steps, 0)
        self.decay_steps = at_least(self, "decay_steps", decay_steps, 1)
        self.end = below_one(self, "end", end)

    def __call__(self, step: Any) -> tf.Tensor:
        """The rate of a step, counted from 0; float32 scalar."""
        # In float32 every step would be lost that is beyond 2²⁴.
        step = tf.cast(step, tf.int64)
        after = tf.cast(tf.maximum(step - self.warmup_steps, 0), tf.float32)
        factor = DECAYS[self.kind](after / self.decay_steps, self.end)
        if self.warmup_steps:
            factor *= tf.minimum(tf.cast(step + 1, tf.float32) / self.warmup_steps, 1)
        return self.learning_rate * factor

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {
            "learning_rate": self.learning_rate, "kind": self.kind, "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps, "end": self.end,
        }  # fmt: skip
