"""What a balancer is: a pure function of task statistics.

Shapes: ``T`` tasks, ``G`` groups of variables.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import tensorflow as tf

Needs = Literal["losses", "gram"]
"""The cheapest statistic that a method works from; the trainer computes no more."""

Heads = Literal["own", "weighted"]
"""What the layers of a single task receive from a method that works on gradients: the gradient of the task's own loss,
or that gradient times the task's weight. (A method that works on losses always weighs the whole loss.)"""

State = Mapping[str, Any]
"""Named tensors. Their names, shapes and dtypes never change, so that they can live in variables and checkpoints."""


class Stats(NamedTuple):
    """What is known of the tasks at one step; nothing here carries a gradient.

    Attributes:
        losses_T: float, the task's loss times its static weight; 0 for a task without a label in the batch.
        active_T: bool, whether the batch holds a label of the task.
        gram_TT: float, inner products of the tasks' gradients at the level that was chosen (the shared
            representation, unless another was asked for); None unless the method needs them. Rows and columns of
            inactive tasks are 0.
        step: int64 scalar, number of steps before this one.
        gram_GTT: float, the same for each group of variables; None unless the method has a `Balancer.grouping`.
    """

    losses_T: tf.Tensor
    active_T: tf.Tensor
    gram_TT: tf.Tensor | None
    step: tf.Tensor
    gram_GTT: tf.Tensor | None = None


def chosen_gram(stats: Stats) -> tf.Tensor:
    """The inner products that a method with a `Balancer.grouping` works from: by group where there are groups."""
    return stats.gram_TT if stats.gram_GTT is None else stats.gram_GTT


class Balancer(ABC):
    """A balancing method. Subclasses are frozen dataclasses of plain numbers; what changes is in the state.

    `init`, `update` and `observe` are pure: the same arguments give the same answer, nothing is written, no code runs
    on the host, and XLA can compile them. `update` returns weights of the dtype of ``stats.losses_T``.

    A task that is not active is left out of the solution as if it were not there: it keeps its part of the state
    and has weight 1, which changes nothing, since its gradient is zero.
    """

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """The cheapest statistic that the method works from."""

    @property
    def heads(self) -> Heads:
        """What the layers of a single task receive; of no meaning where the method needs losses only."""
        return "own"

    @property
    def reevaluates(self) -> bool:
        """Whether `observe` has to be called with the losses of the same batch after the step."""
        return False

    def grouping(self, variables: Sequence[str]) -> tuple[int, ...] | None:
        """The group of each shared variable, numbered from 0, for a method that weighs groups of variables apart.

        Args:
            variables: paths of the shared trainable variables.

        Returns:
            None for a method that has one set of weights for all of them.
        """
        del variables
        return None

    @abstractmethod
    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """The state before the first step, for one set of weights ``(T,)``."""

    def init_groups(self, num_tasks: int, num_groups: int) -> dict[str, tf.Tensor]:
        """The state before the first step, for weights ``(G, T)``.

        It takes the place of `init` where `grouping` gives groups and ``stats.gram_GTT`` will be there. A method with
        a grouping also works without: `init`, ``gram_GTT=None`` and weights ``(T,)``, as one group of everything.
        """
        del num_groups
        return self.init(num_tasks)

    @abstractmethod
    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of this step.

        Args:
            stats: statistics of this step.
            state: state after the step before.

        Returns:
            The multiplier of each task's loss ``(T,)`` (``(G, T)`` from a method with a `grouping` where
            ``stats.gram_GTT`` is given), and the next state.
        """

    def observe(self, losses_T: tf.Tensor, stats: Stats, state: State) -> dict[str, tf.Tensor]:
        """The state after the same batch was evaluated again with the new weights of the model.

        Args:
            losses_T: the task losses after the step.
            stats: statistics of the step.
            state: what `update` returned for it.
        """
        del losses_T, stats
        return dict(state)
