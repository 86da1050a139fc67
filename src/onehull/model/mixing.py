"""Makers of experts, gates and mixtures, as the architectures with experts use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import keras

from onehull.model.bricks import Bricks
from onehull.model.experts import Experts
from onehull.model.gate import Gate
from onehull.model.mixture import Mixture


class Stack(NamedTuple):
    """Experts of one owner: their names, and their symbolic outputs ``(B, n, d)``."""

    names: tuple[str, ...]
    outputs: Any


@dataclass(frozen=True)
class Mixing:
    """Makes the layers of a mixture of experts; each is named and seeded by its owner and its level.

    Attributes:
        bricks: inputs and the common layers.
        gate: widths of a gate's hidden layers.
        gate_dropout: share of a gate's weights dropped in training.
        expert_norm: normalisation in the experts; ``none`` leaves it to `Bricks.batch_norm`.
    """

    bricks: Bricks
    gate: Sequence[int] = ()
    gate_dropout: float = 0.0
    expert_norm: Literal["none", "batch", "layer"] = "none"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks by name: in which order a spec has them changes no sum, not even in the last digit."""
        return tuple(sorted(self.bricks.tasks))

    def owner(self, name: str) -> str:
        """The name of an owner that is no task, with underscores where a task happens to have it."""
        while name in self.bricks.tasks:
            name = f"{name}_"
        return name

    def experts(self, owner: str, count: int, level: int, widths: Sequence[int], inputs: Any) -> Stack | None:
        """Experts of an owner on one level; None where it has none.

        Args:
            owner: a task, or another owner.
            count: how many, 0 for none.
            level: counted from the input, from 1.
            widths: units of each layer.
            inputs: ``(B, D)``, or a list with one such tensor an expert.
        """
        if count == 0:
            return None
        return self.some_experts(owner, count, level, widths, inputs)

    def some_experts(self, owner: str, count: int, level: int, widths: Sequence[int], inputs: Any) -> Stack:
        """Experts of an owner that must have some; arguments as in `experts`.

        Raises:
            ValueError: `count` is 0.
        """
        bricks, norm = self.bricks, self.expert_norm
        layer = Experts(
            [f"{owner}_{index}" for index in range(1, count + 1)],
            widths,
            activation=bricks.activation,
            norm="batch" if norm == "none" and bricks.batch_norm else norm,
            dropout=bricks.dropout,
            l2=bricks.l2,
            level=level,
            seed=bricks.seed,
            name=bricks.names.free(f"experts_{owner}_{level}"),
        )
        return Stack(layer.names, layer(inputs))

    def mix(
        self, owner: str, stacks: Sequence[Stack | None], level: int, read: Any, stopped: Sequence[int] = ()
    ) -> Any:
        """What an owner takes from experts, by a gate of its own; ``(B, d)``.

        A single expert is taken as it is: its weight would be 1, whatever a gate reads.

        Args:
            owner: a task, or another owner.
            stacks: the experts; None stands for an owner without any.
            level: of the experts.
            read: what the gate reads, ``(B, D)``.
            stopped: places of the stacks that pass forward only.
        """
        bricks = self.bricks
        present = [(place, stack) for place, stack in enumerate(stacks) if stack is not None]
        names = [name for _, stack in present for name in stack.names]
        mixture_name = bricks.names.free(f"mixture_{owner}_{level}")
        if len(names) == 1:
            ((_, only),) = present
            return keras.layers.Reshape((only.outputs.shape[-1],), name=mixture_name)(only.outputs)
        weights = Gate(
            names,
            owner,
            self.gate,
            activation=bricks.activation,
            dropout=self.gate_dropout,
            l2=bricks.l2,
            level=level,
            seed=bricks.seed,
            name=bricks.names.free(f"gate_{owner}_{level}"),
        )(read)
        places = [index for index, (place, _) in enumerate(present) if place in stopped]
        return Mixture(places, name=mixture_name)([*(stack.outputs for _, stack in present), weights])
