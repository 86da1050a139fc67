"""All encoded inputs of a model as one vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from onehull.model.seeds import layer_seed
from onehull.spec.inputs import MISSING_ID, ModelInput


@keras.saving.register_keras_serializable(package="onehull")
class FeatureEmbeddings(keras.layers.Layer):
    """Embeds ids, pools bags of ids, passes numbers on, and concatenates all of it in the order of the inputs.

    The embedding of feature ``user_id`` is the sub-layer ``embedding_user_id``. In a bag, `MISSING_ID` is padding and
    counts for nothing; an empty bag gives zeros. For a single id, `MISSING_ID` is an id like any other.

    Args:
        inputs: the encoded inputs, or their dicts.
        dim: width of the embeddings whose input does not say.
        l2: penalty on the rows that a batch looks up, ``l2 · Σ (row²) / B`` with each look-up counted, in training
            only. A row that is not looked up is not moved.
        seed: seed of the initial rows, together with the features' names.
        stddev: standard deviation of the initial rows.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self,
        inputs: Sequence[ModelInput | Mapping[str, Any]],
        dim: int = 16,
        l2: float = 0.0,
        seed: int | None = None,
        stddev: float = 1e-4,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.inputs = tuple(item if isinstance(item, ModelInput) else ModelInput(**item) for item in inputs)
        self.dim, self.l2, self.seed, self.stddev = dim, l2, seed, stddev
        self._embeddings = {
            item.name: keras.layers.Embedding(
                item.rows,
                item.dim or dim,
                embeddings_initializer=keras.initializers.RandomNormal(
                    stddev=stddev, seed=layer_seed(seed, f"embedding_{item.name}")
                ),
                dtype=self.dtype_policy,
                name=f"embedding_{item.name}",
            )
            for item in self.inputs
            if item.kind != "dense"
        }

    @property
    def width(self) -> int:
        """Width of the output."""
        return sum(item.length if item.kind == "dense" else (item.dim or self.dim) for item in self.inputs)

    def build(self, input_shape: Any) -> None:
        """Makes the embeddings."""
        for embedding in self._embeddings.values():
            embedding.build()
        super().build(input_shape)

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> Any:
        """Embeds a dict of encoded inputs, see `ModelInput`; ``(B, width)``."""
        parts = [self._encode(item, inputs[item.name], bool(training)) for item in self.inputs]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)

    def _encode(self, item: ModelInput, value: Any, training: bool) -> Any:
        if item.kind == "dense":
            return ops.cast(value, self.compute_dtype)
        rows = self._embeddings[item.name](value)
        if item.kind == "id":
            self._penalise(rows, training)
            return rows
        present = ops.cast(ops.not_equal(value, MISSING_ID), rows.dtype)[..., None]
        rows = rows * present
        self._penalise(rows, training)
        pooled = ops.sum(rows, axis=1)
        if item.pooling == "sum":
            return pooled
        return pooled / ops.maximum(ops.sum(present, axis=1), 1)

    def _penalise(self, rows: Any, training: bool) -> None:
        if self.l2 and training:
            count = ops.cast(ops.shape(rows)[0], "float32")
            self.add_loss(self.l2 * ops.sum(ops.square(ops.cast(rows, "float32"))) / count)

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> tuple[Any, ...]:
        """``(B, width)``."""
        return (next(iter(input_shape.values()))[0], self.width)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {
            "inputs": [item.model_dump(mode="json") for item in self.inputs],
            "dim": self.dim, "l2": self.l2, "seed": self.seed, "stddev": self.stddev,
        }  # fmt: skip
        return {**super().get_config(), **own}
