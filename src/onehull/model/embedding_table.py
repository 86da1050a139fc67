"""A table of embeddings that several features own rows of: one look-up, one sparse gradient and one update a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from onehull.model.seeds import layer_seed

_CHUNK_ELEMENTS = 1 << 24
"""Initial values that are drawn at once: a table of gigabytes is filled without a second one beside it."""


class Place(NamedTuple):
    """Where the rows of a feature stand.

    Attributes:
        table: name of the table.
        start: first row.
        rows: number of rows.
        dim: width of a row.
    """

    table: str
    start: int
    rows: int
    dim: int


@keras.saving.register_keras_serializable(package="onehull")
class EmbeddingTable(keras.layers.Layer):
    """Rows of several features under each other.

    The table stays float32 under mixed precision, and what was looked up is cast: casting the table would cost as much
    as it has rows, at every step.

    Args:
        rows: number of rows of each feature, in their order.
        dim: width of a row.
        seed: seed of the initial rows; a feature's rows depend on it and on the feature's name alone.
        stddev: standard deviation of the initial rows.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self, rows: Mapping[str, int], dim: int, seed: int | None = None, stddev: float = 1e-4, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.rows, self.dim, self.seed, self.stddev = dict(rows), dim, seed, stddev

    @property
    def places(self) -> dict[str, Place]:
        """Where the rows of each feature stand."""
        found, start = {}, 0
        for name, rows in self.rows.items():
            found[name] = Place(self.name, start, rows, self.dim)
            start += rows
        return found

    def build(self, input_shape: Any = None) -> None:
        """Makes the table and draws its rows."""
        del input_shape
        shape = (sum(self.rows.values()), self.dim)
        self.table = self.add_weight(name="table", shape=shape, initializer="zeros", autocast=False)
        with tf.init_scope():
            for place, seed in ((place, self._row_seed(name)) for name, place in self.places.items()):
                for start, values in initial_rows(place, seed, self.stddev):
                    write_rows(self.table, start, values)
        super().build(None)

    def call(self, indices: Any) -> Any:
        """Rows of the table ``(…)`` → ``(…, dim)``. Only the rows looked up are read."""
        return tf.cast(tf.gather(self.table.value, indices), self.compute_dtype)

    def compute_output_spec(self, indices: Any) -> Any:
        """``(…, dim)``."""
        return keras.KerasTensor((*indices.shape, self.dim), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {"rows": self.rows, "dim": self.dim, "seed": self.seed, "stddev": self.stddev}
        return {**super().get_config(), **own}

    def _row_seed(self, feature: str) -> int:
        seed = layer_seed(self.seed, f"embedding_{feature}")
        return int(keras.random.randint((), 0, 2**31 - 1)) if seed is None else seed


def initial_rows(place: Place, seed: int, stddev: float, first: int = 0) -> Iterator[tuple[int, tf.Tensor]]:
    """Draws the initial rows of a feature, a part at a time.

    Args:
        place: of the feature.
        seed: of the feature.
        stddev: standard deviation.
        first: row of the feature to begin with; a row has the same value wherever one begins.

    Yields:
        Place of the first row in the table, and rows ``(n, dim)``.
    """
    chunk = max(1, _CHUNK_ELEMENTS // place.dim)
    for number in range(first // chunk, -(-place.rows // chunk)):
        start, stop = number * chunk, min((number + 1) * chunk, place.rows)
        values = tf.random.stateless_normal((stop - start, place.dim), seed=(seed, number), stddev=stddev)
        yield place.start + max(start, first), values[max(first - start, 0) :]


def write_rows(variable: Any, start: int, values: Any) -> None:
    """Writes consecutive rows of a Keras variable in place, on every device that has a copy."""
    value = variable.value
    for component in getattr(value, "values", (value,)):
        # Not component[…].assign, which holds the whole table while it writes, so that TensorFlow copies it.
        tf.raw_ops.ResourceStridedSliceAssign(
            ref=component.handle,
            begin=[start],
            end=[start + values.shape[0]],
            strides=[1],
            value=tf.cast(values, component.dtype),
        )


def tables_of(layers: Iterable[Any]) -> list[Any]:
    """Embedding variables of layers, Keras' own included, each once and in their order.

    Args:
        layers: a model's; those inside of others are found.
    """
    found: dict[int, Any] = {}
    for layer in layers:
        for part in layer._flatten_layers():
            if isinstance(part, (EmbeddingTable, keras.layers.Embedding)):
                found.update({id(v): v for v in part.trainable_variables})
    return list(found.values())
