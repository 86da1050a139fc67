"""All encoded inputs of a model as one vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from onehull.model.embedding_table import EmbeddingTable, Place
from onehull.model.replicas import replicas, replicas_here, summed
from onehull.spec.inputs import MISSING_ID, ModelInput


class _Columns(NamedTuple):
    """Where the ids of an input stand among all ids of their table, ``(B, ids)``."""

    start: int
    stop: int


@keras.saving.register_keras_serializable(package="onehull")
class FeatureEmbeddings(keras.layers.Layer):
    """Embeds ids, pools bags of ids, passes numbers on, and concatenates all of it in the order of the inputs.

    Features of one width share a table, whose rows they own in ranges (`places`): a step makes one look-up, one sparse
    gradient and one update for all of them. In a bag, `MISSING_ID` is padding and counts for nothing; an empty bag
    gives zeros. For a single id, `MISSING_ID` is an id like any other. An id outside of its feature's rows is an error
    on a CPU, and zeros on a GPU, as TensorFlow's gather has it; it never reads another feature's rows.

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
        embedded = [item for item in self.inputs if item.kind != "dense"]
        widths = list(dict.fromkeys(self._dim(item) for item in embedded))
        self._members = {width: [item for item in embedded if self._dim(item) == width] for width in widths}
        self.tables = {
            f"table_{width}": EmbeddingTable(
                {item.name: item.rows for item in items},
                width,
                seed,
                stddev,
                dtype=self.dtype_policy,
                name=f"table_{width}",
            )
            for width, items in self._members.items()
        }

    @property
    def width(self) -> int:
        """Width of the output."""
        return sum(item.length if item.kind == "dense" else self._dim(item) for item in self.inputs)

    @property
    def places(self) -> dict[str, Place]:
        """Table and rows of each feature that is embedded."""
        return {name: place for table in self.tables.values() for name, place in table.places.items()}

    def build(self, input_shape: Any) -> None:
        """Makes the tables."""
        for table in self.tables.values():
            table.build()
        super().build(input_shape)

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> Any:
        """Embeds a dict of encoded inputs, see `ModelInput`; ``(B, width)``."""
        rows = {width: self._look_up(width, inputs) for width in self._members}
        parts: list[Any] = []
        for (kind, width), group in groupby(self.inputs, key=lambda item: (item.kind, self._dim(item))):
            items = list(group)
            if kind == "dense":
                parts.extend(tf.cast(inputs[item.name], self.compute_dtype) for item in items)
            elif kind == "id":
                parts.append(self._side_by_side(items, rows[width], bool(training)))
            else:
                parts.extend(self._pooled(item, inputs[item.name], rows[width], bool(training)) for item in items)
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)

    def _look_up(self, width: int, inputs: Mapping[str, Any]) -> tf.Tensor:
        """Rows of all ids of one table, ``(B, ids, width)``."""
        table, items = self.tables[f"table_{width}"], self._members[width]
        ids = [tf.reshape(inputs[item.name], [-1, _ids(item)]) for item in items]
        ids_BN = tf.concat([tf.cast(part, tf.int32) for part in ids], axis=1)
        places = [table.places[item.name] for item in items for _ in range(_ids(item))]
        rows_N = tf.constant([place.rows for place in places])
        start_N = tf.constant([place.start for place in places])
        inside_BN = (ids_BN >= 0) & (ids_BN < rows_N)
        return table(tf.where(inside_BN, ids_BN + start_N, -1))

    def _columns(self, item: ModelInput) -> _Columns:
        start = 0
        for other in self._members[self._dim(item)]:
            if other.name == item.name:
                break
            start += _ids(other)
        return _Columns(start, start + _ids(item))

    def _side_by_side(self, items: Sequence[ModelInput], rows_BNd: tf.Tensor, training: bool) -> tf.Tensor:
        """Single ids of one width that follow one another, ``(B, ids · width)``."""
        start, stop = self._columns(items[0]).start, self._columns(items[-1]).stop
        if stop - start != len(items):  # bags of the same table stand between them
            own_BNd = tf.stack([rows_BNd[:, self._columns(item).start] for item in items], axis=1)
        elif len(items) == rows_BNd.shape[1]:  # the gradient of a slice, even of all, is a copy
            own_BNd = rows_BNd
        else:
            own_BNd = rows_BNd[:, start:stop]
        self._penalise(own_BNd, training)
        return tf.reshape(own_BNd, [-1, len(items) * self._dim(items[0])])

    def _pooled(self, item: ModelInput, ids_BL: Any, rows_BNd: tf.Tensor, training: bool) -> tf.Tensor:
        """A bag, ``(B, width)``."""
        start, stop = self._columns(item)
        present = tf.cast(tf.not_equal(ids_BL, MISSING_ID), rows_BNd.dtype)[..., tf.newaxis]
        rows = rows_BNd[:, start:stop] * present
        self._penalise(rows, training)
        pooled = tf.reduce_sum(rows, axis=1)
        if item.pooling == "sum":
            return pooled
        return pooled / tf.maximum(tf.reduce_sum(present, axis=1), 1)

    def _penalise(self, rows: Any, training: bool) -> None:
        if self.l2 and training:
            count = tf.cast(tf.shape(rows)[0], tf.float32)
            # Replicas of one process take turns where they sum something, and Keras keeps one list of penalties for
            # all of them: nothing may be summed while a model is called.
            if replicas_here() == 1:
                count = summed(count) / replicas()
            # A replica may have no row of the last batch.
            self.add_loss(self.l2 * tf.reduce_sum(tf.square(tf.cast(rows, tf.float32))) / tf.maximum(count, 1.0))

    def _dim(self, item: ModelInput) -> int:
        return item.dim or self.dim

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


def _ids(item: ModelInput) -> int:
    """Ids of an input in one row."""
    return item.length if item.kind == "ids" else 1
