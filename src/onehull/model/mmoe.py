"""MMoE: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018.

All tasks share the experts, and each task has a gate: ``f_k = Σ_j g_kj(x) E_j(x)``. Several levels
are ML-MMoE, the baseline of AdaTT (Li et al., KDD 2023): between two levels there is one gate for each expert of the
next, and the gates of all levels read the embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from onehull.model.bricks import Bricks, Graph
from onehull.model.mixing import Mixing


def mmoe(
    bricks: Bricks,
    *,
    experts: int,
    levels: Sequence[Sequence[int]],
    gate: Sequence[int] = (),
    gate_dropout: float = 0.0,
    expert_norm: Literal["none", "batch", "layer"] = "none",
) -> Graph:
    """Builds the graph up to the last hidden layer of each task.

    Args:
        bricks: inputs and layers.
        experts: number of experts of each level.
        levels: widths of an expert's layers, for each level.
        gate: widths of a gate's hidden layers.
        gate_dropout: share of a gate's weights dropped in training.
        expert_norm: normalisation in an expert before each activation.

    Raises:
        ValueError: `experts` is 0.
    """
    mixing = Mixing(bricks, gate, gate_dropout, expert_norm)
    shared, embedded = mixing.owner("shared"), bricks.embed()
    inputs: Any = embedded
    for level, widths in enumerate(levels, start=1):
        stack = mixing.some_experts(shared, experts, level, widths, inputs)
        if level < len(levels):
            readers = [f"{shared}_{index}" for index in range(1, experts + 1)]
            inputs = [mixing.mix(reader, [stack], level, embedded) for reader in readers]
    return Graph({task: bricks.tower(task, mixing.mix(task, [stack], len(levels), embedded)) for task in mixing.tasks})
