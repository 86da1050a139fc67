"""Weights of their own for groups of shared variables, such as the embeddings and each layer of a bottom.

Tasks that conflict in the upper layers often agree in the embeddings; one set of weights for all cannot say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow as tf

from onehull.balance.types import Heads, State, Stats
from onehull.balance.wrapper import Wrapper, as_inner, inner_state
from onehull.errors import suggest


@dataclass(frozen=True)
class ByGroup(Wrapper):
    """The inner method apart for each group of shared variables, with a state for each; weights ``(G, T)``.

    The layers of a single task receive the gradient of their own loss: no one weight of a task is left for them. A
    random method draws the same in all groups.

    Args:
        inner: a method that works on gradients and does not group variables itself.
        patterns: regular expressions, searched in the variables' paths. A variable belongs to the first that is
            found in its path; those without one are the last group.
    """

    patterns: tuple[str, ...] = ()
    heads: ClassVar[Heads] = "own"

    def __post_init__(self) -> None:
        if self.inner.needs != "gram" or self.inner.grouping(("one", "another")) is not None:
            rule = "must work on gradients and have one set of weights for all variables"
            raise ValueError(f"ByGroup.inner {rule}. Received {self.inner}.")
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                rule = f"must be regular expressions: {error}"
                raise ValueError(f"ByGroup.patterns {rule}. Received {pattern!r}.") from error

    def grouping(self, variables: Sequence[str]) -> tuple[int, ...]:
        """The number of the first pattern that is found in each path.

        Raises:
            ValueError: a pattern has no variable of its own.
        """
        groups = tuple(self._group(path) for path in variables)
        for number, pattern in enumerate(self.patterns):
            if number not in groups:
                rule = "must each match a shared variable that no earlier one matches"
                remedy = suggest(pattern, list(variables))
                raise ValueError(f"ByGroup.patterns {rule}. Received {pattern!r}. {remedy}")
        return groups

    def init_groups(self, num_tasks: int, num_groups: int) -> dict[str, tf.Tensor]:
        """The inner state once for each group, stacked."""
        return as_inner({name: tf.stack([value] * num_groups) for name, value in self.inner.init(num_tasks).items()})

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The inner weights of each group ``(G, T)``; ``(T,)`` where the statistics know no groups."""
        if stats.gram_GTT is None:
            return self.inner_update(stats, state)
        found = [self.inner.update(*group) for group in _groups(stats, state)]
        return tf.stack([weights_T for weights_T, _ in found]), _together([after for _, after in found])

    def observe(self, losses_T: tf.Tensor, stats: Stats, state: State) -> dict[str, tf.Tensor]:
        """The inner state of each group after the second look."""
        if stats.gram_GTT is None:
            return super().observe(losses_T, stats, state)
        return _together([self.inner.observe(losses_T, *group) for group in _groups(stats, state)])

    def _group(self, path: str) -> int:
        matches = (number for number, pattern in enumerate(self.patterns) if re.search(pattern, path))
        return next(matches, len(self.patterns))


def _groups(stats: Stats, state: State) -> Iterator[tuple[Stats, dict[str, Any]]]:
    """What the inner method sees of each group: its statistics and its state."""
    for group, gram_TT in enumerate(tf.unstack(stats.gram_GTT)):
        of_group = {name: value[group] for name, value in inner_state(state).items()}
        yield stats._replace(gram_TT=gram_TT, gram_GTT=None), of_group


def _together(states: Sequence[State]) -> dict[str, Any]:
    """The wrapper's state from the inner ones."""
    return as_inner({name: tf.stack([state[name] for state in states]) for name in states[0]})
