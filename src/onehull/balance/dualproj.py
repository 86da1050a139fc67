"""DualProj: Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, section 3.

The mean gradient is projected on the cone of directions in which no loss rises. (There one task is learned and the
others remembered; on all tasks at once, and by this name: Quinton and Rey, 2024.)

Where we differ from the authors' code: the projection is exact and made without a solver on the host; they add a
margin to each constraint, here it is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.geometry import geometry
from onehull.balance.presence import weight_one_outside
from onehull.balance.types import Balancer, Needs, State, Stats
from onehull.balance.upgrad import projected


@dataclass(frozen=True)
class DualProj(Balancer):
    """The mean gradient projected where no task gets worse; weights are 1/T where the mean harms nobody (G = I).

    Heads: each learns from its own loss, as with UPGrad.
    """

    needs: ClassVar[Needs] = "gram"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """No state."""
        del num_tasks
        return {}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of the projected mean."""
        known = geometry(stats)
        weights_T = projected(known, known.share_T[None, :])[0]
        return weight_one_outside(weights_T, known.solved_T, stats.losses_T.dtype), dict(state)
