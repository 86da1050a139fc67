"""The transform in NumPy, without TensorFlow: what the ranker encodes with.

It computes what the graph computes (`onehull.features.layers`): ids exactly, numbers to the last bits of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import numpy as np
import polars as pl
from siphash24 import siphash24

from onehull.errors import DataError
from onehull.features import values
from onehull.features.transform import (
    MAX_Z,
    SMALLEST,
    BucketsTransform,
    FeatureTransform,
    HashTransform,
    MomentsTransform,
    Transform,
    VectorTransform,
    VocabularyTransform,
)
from onehull.features.values import Column
from onehull.spec.inputs import FIRST_ID, MISSING_ID, UNSEEN_ID
from onehull.spec.samples import feature_column

Arrays = dict[str, np.ndarray]


class ArrayTransform:
    """Raw values → encoded inputs.

    Args:
        transform: what analysis found.
    """

    def __init__(self, transform: Transform) -> None:
        self.inputs = transform.inputs
        self._encoders = {name: _encoder(name, feature) for name, feature in transform.features.items()}

    def encode(self, rows: Mapping[str, Column], count: int) -> Arrays:
        """Encodes some rows.

        Args:
            rows: by feature, `count` raw values: text, numbers, lists, vectors; None and NaN are missing, and so is
                a whole feature that is absent. Ids may be text or numbers (`onehull.spec.samples.id_text`).
            count: number of rows.

        Returns:
            By feature, the arrays that `ModelInput` describes.

        Raises:
            DataError: a value is of another kind than its feature.
        """
        return {name: encoder(_column(rows, name, count)) for name, encoder in self._encoders.items()}

    def encode_frame(self, frame: pl.DataFrame) -> Arrays:
        """Encodes rows of a table with columns ``x.FEATURE``; an absent column is missing."""
        columns = {name: frame[column] for name in self._encoders if (column := feature_column(name)) in frame.columns}
        return self.encode(columns, len(frame))


class _Vocabulary(dict[str | None, int]):
    """Places of ids; missing ones included."""

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__(zip(known, range(FIRST_ID, FIRST_ID + len(known)), strict=True))
        self[None] = self[""] = MISSING_ID

    def __missing__(self, text: str | None) -> int:
        return UNSEEN_ID


class _Buckets:
    """SipHash-2-4 buckets, as `tf.strings.to_hash_bucket_strong` numbers them."""

    def __init__(self, buckets: int, key: tuple[int, int]) -> None:
        self._buckets = buckets
        self._key = b"".join(part.to_bytes(8, "little") for part in key)

    def __getitem__(self, text: str | None) -> int:
        if not text:
            return MISSING_ID
        digest = siphash24(text.encode("utf-8", "surrogatepass"), key=self._key).digest()
        return 1 + int.from_bytes(digest, "little") % self._buckets


class _Ids:
    """One id a row → int32 ``(B,)``."""

    def __init__(self, feature: VocabularyTransform | HashTransform) -> None:
        self._place = _places(feature)

    def __call__(self, column: Column) -> np.ndarray:
        return np.array([*map(self._place, values.id_texts(column))], np.int32)


class _Bags:
    """A list of ids a row → int32 ``(B, N)``."""

    def __init__(self, feature: VocabularyTransform | HashTransform, length: int, separator: str | None) -> None:
        self._place = _places(feature)
        self._length, self._separator = length, separator

    def __call__(self, column: Column) -> np.ndarray:
        bags = [ids[: self._length] for ids in values.id_lists(column, self._separator)]
        lengths_B = np.fromiter(map(len, bags), np.int64, len(bags))
        ids_BN = np.full((len(bags), self._length), MISSING_ID, np.int32)
        # Row by row, the mask selects exactly the places that the flat list of ids fills.
        filled_BN = np.arange(self._length) < lengths_B[:, None]
        ids_BN[filled_BN] = [*map(self._place, chain.from_iterable(bags))]
        return ids_BN


def _usable(number: np.ndarray) -> np.ndarray:
    """float32 → the same, with 0 for what is missing, infinite or below `SMALLEST`."""
    return np.where(np.isfinite(number) & (np.abs(number) >= SMALLEST), number, np.float32(0))


class _Standardized:
    """A number a row → float32 ``(B, 1)`` or ``(B, 2)``; computed in float64, as in the graph."""

    def __init__(self, name: str, feature: MomentsTransform) -> None:
        self._name, self._mean, self._log1p = name, feature.mean, feature.log1p
        self._scale = 1.0 / feature.std if feature.std > 0 else 0.0
        self._width = 2 if feature.has_missing else 1

    def __call__(self, column: Column) -> np.ndarray:
        number_B = values.numbers(column, self._name)
        finite_B = np.isfinite(number_B)
        value_B = _usable(number_B).astype(np.float64)
        if self._log1p:
            value_B = np.sign(value_B) * np.log1p(np.abs(value_B))
        z_B = np.clip((value_B - self._mean) * self._scale, -MAX_Z, MAX_Z)
        encoded = np.empty((len(number_B), self._width), np.float32)
        encoded[:, 0] = np.where(finite_B, z_B, 0.0)
        if self._width == 2:
            encoded[:, 1] = ~finite_B
        return encoded


class _Quantiles:
    """A number a row → int32 ``(B,)``."""

    def __init__(self, name: str, feature: BucketsTransform) -> None:
        self._name = name
        self._boundaries = _usable(np.array(feature.boundaries, np.float32))

    def __call__(self, column: Column) -> np.ndarray:
        number_B = values.numbers(column, self._name)
        bucket_B = np.searchsorted(self._boundaries, _usable(number_B), side="right")
        return np.where(np.isfinite(number_B), 1 + bucket_B, MISSING_ID).astype(np.int32)


class _Vectors:
    """A vector a row → float32 ``(B, size)``."""

    def __init__(self, name: str, feature: VectorTransform) -> None:
        self._name, self._size = name, feature.size

    def __call__(self, column: Column) -> np.ndarray:
        vectors_BS = values.vectors(column, self._size, self._name)
        whole_B = np.isfinite(vectors_BS).all(axis=1)
        vectors_BS[~whole_B] = 0.0
        return vectors_BS


def _encoder(name: str, feature: FeatureTransform) -> Callable[[Column], np.ndarray]:
    if isinstance(feature, MomentsTransform):
        return _Standardized(name, feature)
    if isinstance(feature, BucketsTransform):
        return _Quantiles(name, feature)
    if isinstance(feature, VectorTransform):
        return _Vectors(name, feature)
    if feature.bag is None:
        return _Ids(feature)
    return _Bags(feature, feature.bag.length, feature.bag.separator)


def _places(feature: VocabularyTransform | HashTransform) -> Callable[[str | None], int]:
    if isinstance(feature, HashTransform):
        return _Buckets(feature.buckets, feature.key).__getitem__
    return _Vocabulary(feature.values).__getitem__


def _column(rows: Mapping[str, Column], name: str, count: int) -> Column:
    column = rows.get(name)
    if column is None:
        return [None] * count
    if len(column) != count:
        raise DataError(f"feature {name!r} must hold {count} values, one a row. Received {len(column)}.")
    return column
