"""A balancer around a balancer: what all of them have in common.

Shapes: ``T`` tasks, ``G`` groups of variables; ``…`` is G or nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from onehull.balance.types import Balancer, Heads, Needs, State, Stats

_INNER = "inner."
"""What the names of the inner state begin with; no name of a wrapper's own state does."""


@dataclass(frozen=True)
class Wrapper(Balancer):
    """Passes everything through to the balancer inside; a wrapper changes one thing of it.

    Args:
        inner: the balancer inside, which may be a wrapper itself.
    """

    inner: Balancer

    @property
    def needs(self) -> Needs:
        """What the inner balancer works from."""
        return self.inner.needs

    @property
    def heads(self) -> Heads:
        """What the inner balancer gives them; a method on losses stays one that weighs the whole loss."""
        return "weighted" if self.inner.needs == "losses" else self.inner.heads

    @property
    def reevaluates(self) -> bool:
        """Whether the inner balancer wants the losses after the step."""
        return self.inner.reevaluates

    def grouping(self, variables: Sequence[str]) -> tuple[int, ...] | None:
        """The groups of the inner balancer."""
        return self.inner.grouping(variables)

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """The wrapper's own state and the inner one."""
        return {**self.own_state([num_tasks]), **as_inner(self.inner.init(num_tasks))}

    def init_groups(self, num_tasks: int, num_groups: int) -> dict[str, tf.Tensor]:
        """The same for weights ``(G, T)``."""
        inner = self.inner.init_groups(num_tasks, num_groups)
        return {**self.own_state([num_groups, num_tasks]), **as_inner(inner)}

    def own_state(self, shape: Sequence[int]) -> dict[str, tf.Tensor]:
        """The state of the wrapper before the first step, for weights of this shape."""
        del shape
        return {}

    @abstractmethod
    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of this step and the next state, the inner one with it."""

    def observe(self, losses_T: tf.Tensor, stats: Stats, state: State) -> dict[str, tf.Tensor]:
        """The inner state after the second look."""
        return {**state, **as_inner(self.inner.observe(losses_T, stats, inner_state(state)))}

    def inner_update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The inner weights ``(…, T)``, and the inner part of the wrapper's next state."""
        weights_T, state_next = self.inner.update(stats, inner_state(state))
        return weights_T, as_inner(state_next)


def inner_state(state: State) -> dict[str, Any]:
    """The inner balancer's state."""
    return {name.removeprefix(_INNER): value for name, value in state.items() if name.startswith(_INNER)}


def as_inner(state: Mapping[str, Any]) -> dict[str, Any]:
    """The inner balancer's state under the names that it has in the wrapper's."""
    return {f"{_INNER}{name}": value for name, value in state.items()}
