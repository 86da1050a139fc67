"""The shapes of the model's inputs: what the transform produces and the model consumes."""

from __future__ import annotations

from typing import Literal

from onehull.spec.section import Section

MISSING_ID, UNSEEN_ID, FIRST_ID = 0, 1, 2
"""Rows of every id embedding: missing (also padding of lists), unseen in training, then the known ids.
A hashed feature has no unseen ids: its buckets start at 1. Quantile buckets start at 1, too."""


class ModelInput(Section):
    """One encoded input. ``B`` is the batch.

    - ``id``     int32 ``(B,)``: row of an embedding with `rows` rows of width `dim`
    - ``ids``    int32 ``(B, length)``: bag of rows, padded with `MISSING_ID`, pooled
    - ``dense``  float32 ``(B, length)``: numbers as they are
    """

    name: str
    kind: Literal["id", "ids", "dense"]
    rows: int = 0
    dim: int | None = None
    length: int = 1
    pooling: Literal["mean", "sum"] = "mean"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row, without the batch."""
        return () if self.kind == "id" else (self.length,)

    @property
    def dtype(self) -> str:
        """Name of the dtype in NumPy, TensorFlow and LiteRT."""
        return "float32" if self.kind == "dense" else "int32"
