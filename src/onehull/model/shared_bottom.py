"""Shared bottom: Caruana, "Multitask Learning", Machine Learning 28, 1997.

Embeddings, then a stack of dense layers, then a tower for each task. The sharing depth says how many of these layers
all tasks share, counted from the input; every task has its own copy of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from onehull.model.bricks import Bricks, Graph


def shared_bottom(bricks: Bricks, *, bottom: Sequence[int], sharing_depth: int | None = None) -> Graph:
    """Builds the graph up to the last hidden layer of each task.

    Args:
        bricks: inputs and layers.
        bottom: widths of the bottom's layers.
        sharing_depth: 0 shares nothing, 1 the embeddings, 1 + len(bottom) everything below the towers (default).
    """
    depth = 1 + len(bottom) if sharing_depth is None else sharing_depth
    shared = bricks.embed() if depth >= 1 else None
    for index in range(1, depth):
        shared = bricks.dense(f"shared_{index}", bottom[index - 1], shared)
    hidden = {}
    for task in bricks.tasks:
        own = shared if shared is not None else bricks.embed(f"embeddings_{task}")
        for index in range(max(depth, 1), len(bottom) + 1):
            own = bricks.dense(f"bottom_{task}_{index}", bottom[index - 1], own)
        hidden[task] = bricks.tower(task, own)
    return Graph(hidden)
