"""The architecture: embeddings, shared bottom, towers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onehull.spec.section import Section

Width = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]


class SharedBottom(Section):
    """Embeddings, then shared layers, then a tower for each task (Caruana, 1997)."""

    kind: Literal["shared_bottom"] = "shared_bottom"
    embedding_dim: Width = 16
    embedding_stddev: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """Standard deviation of an embedding's first values. A small one makes ids that are hardly seen say little."""
    bottom: tuple[Width, ...] = (256, 128)
    """Widths of the bottom's layers."""
    sharing_depth: Annotated[int, Field(ge=0)] | None = None
    """How many layers are shared, counted from the input, the embeddings being the first:
    0 = independent models, 1 = embeddings only, 1 + len(bottom) = everything below the towers (default)."""
    tower: tuple[Width, ...] = (64,)
    """Widths of each tower's hidden layers."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    dropout: Rate = 0.0
    """Dropout after each layer of the bottom."""
    tower_dropout: Rate = 0.0
    batch_norm: bool = False
    """Batch normalisation after each dense layer."""
    l2: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty on dense kernels."""
    embedding_l2: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty on the embeddings that a batch looks up."""


Model = SharedBottom
