"""What a balancer is: a pure function of task statistics.

Shapes: ``T`` tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import tensorflow as tf

Needs = Literal["losses", "gram"]
"""The cheapest statistic that a method works from; the trainer computes no more."""

State = Mapping[str, Any]
"""Named tensors. Their names, shapes and dtypes never change, so that they can live in variables and checkpoints."""


class Stats(NamedTuple):
    """What is known of the tasks at one step; nothing here carries a gradient.

    Attributes:
        losses_T: float, the task's loss times its static weight; 0 for a task without a label in the batch.
        active_T: bool, whether the batch holds a label of the task.
        gram_TT: float, inner products of the tasks' gradients at the shared representation;
            None unless the method needs them. Rows and columns of inactive tasks are 0.
        step: int64 scalar, number of steps before this one.
    """

    losses_T: tf.Tensor
    active_T: tf.Tensor
    gram_TT: tf.Tensor | None
    step: tf.Tensor


class Balancer(ABC):
    """A balancing method. Subclasses are frozen dataclasses of plain numbers; what changes is in the state.

    Both methods are pure: the same arguments give the same answer, nothing is written, no code runs on the host,
    and XLA can compile them. `update` returns tensors of the dtype of ``stats.losses_T``.

    A task that is not active is left out of the solution as if it were not there: it keeps its part of the state
    and has weight 1, which changes nothing, since its gradient is zero.
    """

    needs: ClassVar[Needs]

    @abstractmethod
    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """The state before the first step."""

    @abstractmethod
    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of this step.

        Args:
            stats: statistics of this step.
            state: state after the step before.

        Returns:
            The multiplier of each task's loss ``(T,)``, and the next state.
        """
