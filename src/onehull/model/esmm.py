"""ESMM: shared embeddings, and losses on the entire space.

Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click Conversion Rate", SIGIR 2018.
Embeddings that all tasks share, and a tower for each. What makes it ESMM is the loss: a task that is observed only
where another happened learns from all impressions, through the product of the probabilities, see `EntireSpaceLoss`.
"""

from __future__ import annotations

from onehull.model.bricks import Bricks, Graph


def esmm(bricks: Bricks) -> Graph:
    """Builds the graph up to the last hidden layer of each task.

    Args:
        bricks: inputs and layers.
    """
    shared = bricks.embed()
    return Graph({task: bricks.tower(task, shared) for task in bricks.tasks})
