"""Shared bottom: Caruana, "Multitask Learning", Machine Learning 28, 1997.

Embeddings, then a stack of dense layers, then a tower for each task. The sharing depth says how many of these layers
all tasks share, counted from the input; every task has its own copy of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onehull.model.dense_block import DenseBlock
from onehull.model.embeddings import FeatureEmbeddings
from onehull.model.names import LayerNames
from onehull.model.tower import Tower
from onehull.spec.inputs import ModelInput


def shared_bottom(
    symbolic: Mapping[str, Any],
    inputs: Sequence[ModelInput],
    towers: Mapping[str, Sequence[int]],
    names: LayerNames,
    *,
    embedding_dim: int,
    embedding_stddev: float,
    bottom: Sequence[int],
    sharing_depth: int | None,
    activation: str,
    dropout: float,
    tower_dropout: float,
    batch_norm: bool,
    l2: float,
    embedding_l2: float,
    seed: int,
) -> dict[str, Any]:
    """Builds the graph up to the last hidden layer of each task.

    Args:
        symbolic: symbolic input of each encoded input.
        inputs: the encoded inputs.
        towers: widths of each task's tower.
        names: gives layers names that are free.
        embedding_dim: width of the embeddings whose input does not say.
        embedding_stddev: standard deviation of the embeddings' first values.
        bottom: widths of the bottom's layers.
        sharing_depth: 0 shares nothing, 1 the embeddings, 1 + len(bottom) everything below the towers (default).
        activation: name of a Keras activation.
        dropout: after each layer of the bottom.
        tower_dropout: after each layer of the towers.
        batch_norm: after each dense layer.
        l2: penalty on the kernels.
        embedding_l2: penalty on the embeddings that a batch looks up.
        seed: seed of all initial values.

    Returns:
        The symbolic representation of each task, ``(B, width)``.
    """
    depth = 1 + len(bottom) if sharing_depth is None else sharing_depth
    dense = {"activation": activation, "batch_norm": batch_norm, "l2": l2, "seed": seed}

    def embed(name: str) -> Any:
        layer = FeatureEmbeddings(
            inputs, embedding_dim, embedding_l2, seed, stddev=embedding_stddev, name=names.free(name)
        )
        return layer(dict(symbolic))

    def layer(name: str, index: int, hidden: Any) -> Any:
        return DenseBlock(bottom[index - 1], dropout=dropout, **dense, name=names.free(f"{name}_{index}"))(hidden)  # type: ignore[arg-type]

    shared = embed("embeddings") if depth >= 1 else None
    for index in range(1, depth):
        shared = layer("shared", index, shared)
    hidden = {}
    for task, widths in towers.items():
        own = shared if shared is not None else embed(f"embeddings_{task}")
        for index in range(max(depth, 1), len(bottom) + 1):
            own = layer(f"bottom_{task}", index, own)
        if widths:
            tower = Tower(widths, dropout=tower_dropout, **dense, name=names.free(f"tower_{task}"))  # type: ignore[arg-type]
            own = tower(own)
        hidden[task] = own
    return hidden
