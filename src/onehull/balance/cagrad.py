"""CAGrad: Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021, algorithm 1.

``max min_k ⟨g_k, d⟩`` over ``‖d − g_0‖ ≤ c ‖g_0‖``, with g_0 the mean gradient.

Where we differ from the authors' code: they minimise the dual with SciPy on the host. Here the value τ of the worst
task is raised until the shortest step from g_0 to ``{d: ⟨g_k, d⟩ ≥ τ}`` has the length of the radius. That length is a
convex function of τ, with slope Σx / length for the multipliers x of the step, so that Newton's method, started above,
comes down on the root without a line search, and the result is exact. The update is not multiplied by the number of
tasks. Where the combination of gradients that gives the direction is nearly zero, the authors divide by zero plus 1e-8;
here the mean gradient is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import tensorflow as tf

from onehull.balance.geometry import Geometry, geometry, update_length
from onehull.balance.presence import safe_divide, weight_one_outside
from onehull.balance.quadratic import RIDGE, minimize_nonnegative
from onehull.balance.types import Balancer, Needs, State, Stats

_STEPS = 40
_SHORTEST = 1e-3
"""Of the mean gradient's length: the shortest combination of the gradients whose direction is trusted."""


@dataclass(frozen=True)
class CaGrad(Balancer):
    """The best worst task near the mean gradient.

    Weights are ``(1 + c) / (1 + c²) / T`` where G = I; ``(1 + c) / T`` and ``1 / T`` with the other two ``rescale``.

    Heads: each learns from its own loss, as the authors train.

    Args:
        c: radius around the mean gradient, as a share of its length; 0 is the mean.
        rescale: the update is divided by 1 (``none``), 1 + c² (``square``) or 1 + c (``linear``).
    """

    c: float = 0.4
    rescale: Literal["none", "square", "linear"] = "square"
    needs: ClassVar[Needs] = "gram"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """No state.

        Raises:
            ValueError: c or rescale is none of the allowed.
        """
        del num_tasks
        if not 0 <= self.c < 1:
            raise ValueError(f"CaGrad.c must be from 0 up to, not including, 1. Received {self.c}.")
        if self.rescale not in ("none", "square", "linear"):
            raise ValueError(f"CaGrad.rescale must be none, square or linear. Received {self.rescale!r}.")
        return {}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of the mean gradient and of the step away from it."""
        known = geometry(stats)
        divisor = {"none": 1.0, "square": 1 + self.c**2, "linear": 1 + self.c}[self.rescale]
        weights_T = (known.share_T + conflict_averse_step(known, self.c)) / divisor
        return weight_one_outside(weights_T, known.solved_T, stats.losses_T.dtype), dict(state)


def conflict_averse_step(known: Geometry, c: float) -> tf.Tensor:
    """Weights ``(T,)`` of the step from the mean gradient that raises the worst task most.

    Args:
        known: geometry of the gradients.
        c: length of the step, as a share of the mean gradient's.
    """
    slopes_T = tf.linalg.matvec(known.gram_TT, known.share_T)
    mean_length = update_length(known.gram_TT, known.share_T)
    radius = c * mean_length
    worst = tf.where(known.solved_T, slopes_T + radius * known.norms_T, tf.constant(tf.float64.max, tf.float64))

    def shortest_step(value: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        linear_T = tf.where(known.solved_T, (slopes_T - value) / known.norms_T, tf.zeros_like(slopes_T))
        scaled_T = minimize_nonnegative(known.cosines_TT, linear_T[None, :])[0]
        matrix_TT = known.cosines_TT + RIDGE * tf.eye(scaled_T.shape[0], dtype=scaled_T.dtype)
        return scaled_T / known.norms_T, update_length(matrix_TT, scaled_T)

    def newton(
        step: tf.Tensor, value: tf.Tensor, step_T: tf.Tensor, length: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        value -= safe_divide((length - radius) * length, tf.reduce_sum(step_T))
        return step + 1, value, *shortest_step(value)

    def going(step: tf.Tensor, _value: tf.Tensor, _step_T: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        return (step < _STEPS) & (tf.abs(length - radius) > 1e-12 * radius)

    # A step that satisfies one task alone is never longer than one that satisfies all: the start is above the root.
    start = tf.reduce_min(worst)
    _, _, step_T, _ = tf.while_loop(going, newton, (tf.constant(0), start, *shortest_step(start)))
    length = update_length(known.gram_TT, step_T)
    trusted = length >= _SHORTEST * mean_length * tf.reduce_sum(step_T)
    return tf.where(trusted, safe_divide(step_T * radius, length), tf.zeros_like(step_T))
