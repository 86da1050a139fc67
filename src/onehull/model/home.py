"""HoME: Wang et al., "HoME: Hierarchy of Multi-Gate Experts for Multi-Task Learning at Kuaishou", KDD 2025.

Two levels. On the first, experts of each group of tasks (such as watch time, or interaction) and shared ones read the
embeddings. On the second, the experts of a task and those of its group read the group's stream, and the shared ones
read the shared stream. Each expert has a feature gate of its own, and every owner a self gate past its mixture. A
task's gate reads the streams of its group and of all.

The experts are SiLU(BatchNorm(Wx)) by default. Batch normalisation sees the whole batch in training, and running means
in serving; `expert_norm` "layer" does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras

from onehull.model.bricks import Bricks, Graph
from onehull.model.feature_gate import FeatureGate
from onehull.model.mixing import Mixing, Stack
from onehull.model.self_gate import SelfGate


def home(
    bricks: Bricks,
    *,
    groups: Mapping[str, Sequence[str]],
    shared_experts: int,
    task_experts: int,
    feature_gate_rank: int,
    levels: Sequence[Sequence[int]],
    gate: Sequence[int] = (),
    gate_dropout: float = 0.0,
    expert_norm: Literal["none", "batch", "layer"] = "batch",
) -> Graph:
    """Builds the graph up to the last hidden layer of each task.

    Args:
        bricks: inputs and layers.
        groups: tasks of each group; names that are no tasks of the model are passed over. None makes a group of the
            binary tasks and one of the others.
        shared_experts: number of each group's experts, and of those of all tasks, on each level.
        task_experts: number of each task's experts on the second level.
        feature_gate_rank: rank of the feature gates' matrices.
        levels: widths of an expert's layers, for the two levels.
        gate: widths of a gate's hidden layers.
        gate_dropout: share of a gate's weights dropped in training.
        expert_norm: normalisation in an expert before each activation.

    Raises:
        ValueError: a task is in no group or in two; a number of experts is 0.
    """
    layers = _GatedLayers(Mixing(bricks, gate, gate_dropout, expert_norm), feature_gate_rank)
    owner_of = _owners(bricks, groups, layers.mixing)
    shared, embedded = layers.mixing.owner("shared"), bricks.embed()
    owners = [*sorted(set(owner_of.values())), shared]
    first = {owner: layers.experts(owner, shared_experts, 1, levels[0], embedded) for owner in owners}
    streams = {}
    for owner in owners:
        stacks = [*first.values()] if owner == shared else [first[owner], first[shared]]
        streams[owner] = layers.mix(owner, stacks, first[owner], 1, embedded)
    second = {owner: layers.experts(owner, shared_experts, 2, levels[1], streams[owner]) for owner in owners}
    hidden = {}
    for task, group in owner_of.items():
        own = layers.experts(task, task_experts, 2, levels[1], streams[group])
        both = keras.layers.Concatenate(name=bricks.names.free(f"read_{task}_2"))
        read = both([streams[group], streams[shared]])
        hidden[task] = bricks.tower(task, layers.mix(task, [own, second[group], second[shared]], own, 2, read))
    return Graph(hidden)


@dataclass(frozen=True)
class _GatedLayers:
    """Experts behind feature gates, and mixtures with self gates."""

    mixing: Mixing
    rank: int

    def experts(self, owner: str, count: int, level: int, widths: Sequence[int], read: Any) -> Stack:
        bricks = self.mixing.bricks
        gated = [
            FeatureGate(
                self.rank,
                l2=bricks.l2,
                seed=bricks.seed,
                name=bricks.names.free(f"feature_gate_{owner}_{index}_{level}"),
            )(read)
            for index in range(1, count + 1)
        ]
        return self.mixing.some_experts(owner, count, level, widths, gated)

    def mix(self, owner: str, stacks: Sequence[Stack], own: Stack, level: int, read: Any) -> Any:
        bricks, mixed = self.mixing.bricks, self.mixing.mix(owner, stacks, level, read)
        past = SelfGate(bricks.l2, bricks.seed, name=bricks.names.free(f"self_gate_{owner}_{level}"))
        return past([mixed, own.outputs, read])


def _owners(bricks: Bricks, groups: Mapping[str, Sequence[str]], mixing: Mixing) -> dict[str, str]:
    """The owner of each task's group, the tasks by name."""
    if not groups:
        kind = {task: "binary" if task in bricks.binary else "other" for task in mixing.tasks}
        return {task: mixing.owner(f"group_{kind[task]}") for task in mixing.tasks}
    # A model of some of the spec's tasks, such as a baseline of one, has the spec's groups.
    members = [task for tasks in groups.values() for task in tasks if task in bricks.tasks]
    if sorted(members) != list(mixing.tasks):
        remedy = f"Every task belongs to one group. Tasks: {', '.join(mixing.tasks)}."
        raise ValueError(f"model.groups must name every task once. Received {members}. {remedy}")
    group_of = {task: name for name, tasks in groups.items() for task in tasks}
    return {task: mixing.owner(f"group_{group_of[task]}") for task in mixing.tasks}
