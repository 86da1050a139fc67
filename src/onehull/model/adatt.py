"""AdaTT: Li et al., "AdaTT: Adaptive Task-to-Task Fusion Network", KDD 2023.

Every level has experts of each task, which read the task's stream. A task's gate mixes the experts of all tasks, and a
residual adds the task's own: ``f_k = Σ_j g_kj(x_k) E_j + Σ_i v_ki E_ki``. Without shared experts
this is AdaTT-sp, with them general AdaTT: a shared stream that is mixed like a task's, except on the last level, where
nothing would read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from onehull.model.bricks import Bricks, Graph
from onehull.model.mixing import Mixing, Stack
from onehull.model.own_experts import OwnExperts


def adatt(
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
        task_experts: number of each task's experts of each level, at least 1.
        levels: widths of an expert's layers, for each level.
        task_embeddings: whether each task has embedding tables of its own.
        gate: widths of a gate's hidden layers.
        gate_dropout: share of a gate's weights dropped in training.
        expert_norm: normalisation in an expert before each activation.

    Raises:
        ValueError: `task_experts` is 0.
    """
    mixing = Mixing(bricks, gate, gate_dropout, expert_norm)
    shared, embedded = mixing.owner("shared"), bricks.embed_streams(task_embeddings=task_embeddings)
    counts = {**dict.fromkeys(mixing.tasks, task_experts), **({shared: shared_experts} if shared_experts else {})}
    streams = {**embedded.by_task, shared: embedded.shared}
    for level, widths in enumerate(levels, start=1):
        stacks = {
            owner: mixing.some_experts(owner, count, level, widths, streams[owner]) for owner, count in counts.items()
        }
        readers = mixing.tasks if level == len(levels) else tuple(counts)
        streams = {owner: _fuse(mixing, owner, stacks, level, streams[owner]) for owner in readers}
    return Graph({task: bricks.tower(task, streams[task]) for task in mixing.tasks})


def _fuse(mixing: Mixing, owner: str, stacks: dict[str, Stack], level: int, read: Any) -> Any:
    """All experts by the owner's gate, and its own beside them."""
    mixed, own = mixing.mix(owner, list(stacks.values()), level, read), stacks[owner]
    bricks = mixing.bricks
    return OwnExperts(bricks.seed, name=bricks.names.free(f"own_{owner}_{level}"))([mixed, own.outputs])
