"""STEM-Net: Su et al., "STEM: Unleashing the Power of Embeddings for Multi-task Recommendation", AAAI 2024.

There are shared embedding tables and tables of each task, and experts above each. A task's gate reads the sum of its
own and the shared stream, and mixes the experts of all; those of other tasks pass forward only ("all forward,
task-specific backward"), so that a task's tables learn from its labels alone.

The authors' code has one level by default, as here. On several levels we let the shared stream mix all experts, with
no gradient into those of the tasks either: otherwise every task would train every other's tables through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras

from onehull.model.bricks import Bricks, Graph
from onehull.model.mixing import Mixing


def stem(
    bricks: Bricks,
    *,
    shared_experts: int,
    task_experts: int,
    levels: Sequence[Sequence[int]],
    gate: Sequence[int] = (),
    gate_dropout: float = 0.0,
    expert_norm: Literal["none", "batch", "layer"] = "none",
) -> Graph:
    """Builds the graph up to the last hidden layer of each task.

    Args:
        bricks: inputs and layers.
        shared_experts: number of shared experts of each level, at least 1.
        task_experts: number of each task's experts of each level, at least 1.
        levels: widths of an expert's layers, for each level.
        gate: widths of a gate's hidden layers.
        gate_dropout: share of a gate's weights dropped in training.
        expert_norm: normalisation in an expert before each activation.

    Raises:
        ValueError: a number of experts is 0.
    """
    mixing = Mixing(bricks, gate, gate_dropout, expert_norm)
    tasks, shared = mixing.tasks, mixing.owner("shared")
    embedded = bricks.embed_streams(task_embeddings=True)
    streams = {**{task: embedded.by_task[task] for task in tasks}, shared: embedded.shared}
    counts = {**dict.fromkeys(tasks, task_experts), shared: shared_experts}
    for level, widths in enumerate(levels, start=1):
        stacks = [mixing.some_experts(owner, counts[owner], level, widths, streams[owner]) for owner in streams]
        readers = tasks if level == len(levels) else (*tasks, shared)
        streams = {
            owner: mixing.mix(
                owner,
                stacks,
                level,
                streams[shared] if owner == shared else _sum(bricks, owner, level, streams[owner], streams[shared]),
                [place for place, task in enumerate(tasks) if task != owner],
            )
            for owner in readers
        }
    return Graph({task: bricks.tower(task, streams[task]) for task in tasks})


def _sum(bricks: Bricks, task: str, level: int, own: Any, shared: Any) -> Any:
    """What a task's gate reads."""
    return keras.layers.Add(name=bricks.names.free(f"read_{task}_{level}"))([own, shared])
