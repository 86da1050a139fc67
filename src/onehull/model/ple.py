"""PLE: Tang et al., "Progressive Layered Extraction (PLE)", RecSys 2020.

Every level has experts of each task and shared ones. A task's gate mixes its own and the shared experts; the
gate of the shared stream mixes all of them. The next level's experts read the stream of their owner, and so does each
gate. The last level has no shared gate: nothing would read it.

CGC is PLE with one level. With `task_embeddings`, each task's stream begins at tables of its own (STEM).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from onehull.model.bricks import Bricks, Graph
from onehull.model.mixing import Mixing, Stack


def ple(
    bricks: Bricks,
    *,
    shared_experts: int,
    task_experts: int,
    levels: Sequence[Sequence[int]],
    task_embeddings: bool = False,
    gate: Sequence[int] = (),
    gate_dropout: float = 0.0,
    expert_norm: Literal["none", "batch", "layer"] = "none",
) -> Graph:
    """Builds the graph up to the last hidden layer of each task.

    Args:
        bricks: inputs and layers.
        shared_experts: number of shared experts of each level.
        task_experts: number of each task's experts of each level.
        levels: widths of an expert's layers, for each level.
        task_embeddings: whether each task has embedding tables of its own.
        gate: widths of a gate's hidden layers.
        gate_dropout: share of a gate's weights dropped in training.
        expert_norm: normalisation in an expert before each activation.

    Raises:
        ValueError: there are no experts at all.
    """
    mixing = Mixing(bricks, gate, gate_dropout, expert_norm)
    shared_name, streams = mixing.owner("shared"), bricks.embed_streams(task_embeddings=task_embeddings)
    shared, own = streams.shared, streams.by_task
    for level, widths in enumerate(levels, start=1):
        common = mixing.experts(shared_name, shared_experts, level, widths, shared)
        by_task = {task: mixing.experts(task, task_experts, level, widths, own[task]) for task in mixing.tasks}
        own = _task_streams(mixing, by_task, common, level, own)
        if level < len(levels) and common is not None:
            shared = mixing.mix(shared_name, [*by_task.values(), common], level, shared)
    return Graph({task: bricks.tower(task, own[task]) for task in mixing.tasks})


def _task_streams(
    mixing: Mixing, by_task: dict[str, Stack | None], common: Stack | None, level: int, read: dict[str, Any]
) -> dict[str, Any]:
    return {task: mixing.mix(task, [stack, common], level, read[task]) for task, stack in by_task.items()}
