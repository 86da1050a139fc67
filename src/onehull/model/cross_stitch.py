"""Cross-stitch networks: Misra et al., "Cross-stitch Networks for Multi-task Learning", CVPR 2016.

Each task has a bottom of its own. After every layer, a task's next layer reads ``x̃_k = Σ_i α_ki x_i`` (equation 1)
with learned weights that do not depend on the row. The paper has weights for each channel; here, as in AdaTT's
baseline, one weight stands for a whole layer. They start near the identity, as in the paper, not at random, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onehull.model.bricks import Bricks, Graph
from onehull.model.cross_stitch_unit import CrossStitchUnit


def cross_stitch(bricks: Bricks, *, bottom: Sequence[int], own: float = 0.9, task_embeddings: bool = False) -> Graph:
    """Builds the graph up to the last hidden layer of each task.

    Args:
        bricks: inputs and layers.
        bottom: widths of each task's layers.
        own: first weight of a task's own layer; the others share the rest.
        task_embeddings: whether each task has embedding tables of its own.
    """
    tasks = sorted(bricks.tasks)
    streams = bricks.embed_streams(task_embeddings=task_embeddings).by_task
    for level, width in enumerate(bottom, start=1):
        layers = {task: bricks.dense(f"bottom_{task}_{level}", width, streams[task]) for task in tasks}
        streams = {task: _stitch(bricks, task, layers, own, level) for task in tasks}
    return Graph({task: bricks.tower(task, streams[task]) for task in tasks})


def _stitch(bricks: Bricks, task: str, layers: dict[str, Any], own: float, level: int) -> Any:
    """What a task reads; with one task there is nothing to stitch."""
    if len(layers) == 1:
        return layers[task]
    rest = (1 - own) / (len(layers) - 1)
    first = [own if other == task else rest for other in layers]
    return CrossStitchUnit(first, name=bricks.names.free(f"stitch_{task}_{level}"))(list(layers.values()))
