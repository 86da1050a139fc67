"""Measures what the transform must know of the data: vocabularies, moments, quantiles, of the training rows alone.

Polars' streaming engine reads the table, so that it may be larger than memory. What must fit is one numeric column
in float32 at a time for each quantile feature, and the distinct values of the id features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from onehull.errors import DataError
from onehull.features import columns
from onehull.features.counts import IdCounts, count_ids
from onehull.features.quantiles import equal_frequency_boundaries
from onehull.features.transform import (
    Bag,
    BucketsTransform,
    FeatureTransform,
    HashTransform,
    MomentsTransform,
    Transform,
    VectorTransform,
    VocabularyTransform,
)
from onehull.spec.features import CategoricalFeature, Feature, ListFeature, NumericFeature, VectorFeature
from onehull.spec.samples import SPLIT, feature_column

HASH_KEY = (0x6F6E6568756C6C00, 0x7472616E73666F72)
"""Key of hashed features. Any would do; it is stored in the transform, so that it may change without harm."""

_ROWS = "rows"
_Summary = Mapping[str, Any]


def analyze(features: Mapping[str, Feature], samples: pl.LazyFrame, counts: IdCounts | None = None) -> Transform:
    """Measures the features of the training rows.

    A feature that training never saw a value of is allowed: its vocabulary is empty, its numbers encode as 0;
    `feature_statistics` shows it with a missing share of 1. So is one whose values are all equal.

    Args:
        features: the spec's features.
        samples: the samples table (`onehull.spec.samples`).
        counts: of the ids of its training rows, where they are known. Default: they are counted.

    Returns:
        The transform. The same rows give the same transform, in whatever order they stand.

    Raises:
        DataError: a column is absent or of another type, a vector has another size, or there are no training rows.
    """
    columns.check_columns(features, samples)
    train = columns.rows_of(samples, "train")
    summary = _summary(features, train)
    if summary[_ROWS] == 0:
        raise DataError(f"samples: column {SPLIT!r} must name at least one row 'train'. Received none.")
    counts = count_ids(features, samples) if counts is None else counts
    found: dict[str, FeatureTransform] = {}
    for name, feature in features.items():
        if isinstance(feature, NumericFeature):
            found[name] = _number(name, feature, summary, train)
        elif isinstance(feature, VectorFeature):
            _check_size(name, feature, summary)
            found[name] = VectorTransform(size=feature.size)
        else:
            found[name] = _id(name, feature, counts)
    return Transform(features=found)


def _summary(features: Mapping[str, Feature], train: pl.LazyFrame) -> _Summary:
    """Every figure that is one number a column, in one pass."""
    wanted = [pl.len().alias(_ROWS)]
    for name, feature in features.items():
        if isinstance(feature, NumericFeature) and feature.transform != "buckets":
            wanted += _moments(name, log1p=feature.transform == "log1p")
        elif isinstance(feature, VectorFeature):
            size = pl.col(feature_column(name)).cast(pl.List(pl.Float32)).list.len()
            wanted += [size.min().alias(f"{name}:min"), size.max().alias(f"{name}:max")]
    return train.select(wanted).collect(engine="streaming").row(0, named=True)


def _moments(name: str, *, log1p: bool) -> list[pl.Expr]:
    number = columns.numbers(name).cast(pl.Float64)
    value = number.sign() * number.abs().log1p() if log1p else number
    return [
        value.count().alias(f"{name}:count"),
        value.mean().alias(f"{name}:mean"),
        value.std(ddof=0).alias(f"{name}:std"),
        value.min().alias(f"{name}:min"),
        value.max().alias(f"{name}:max"),
    ]


def _number(
    name: str, feature: NumericFeature, summary: _Summary, train: pl.LazyFrame
) -> MomentsTransform | BucketsTransform:
    if feature.transform == "buckets":
        values = train.select(columns.numbers(name).drop_nulls()).collect(engine="streaming").to_series()
        return BucketsTransform(
            boundaries=equal_frequency_boundaries(values.to_numpy(), feature.buckets), dim=feature.dim
        )
    # Rounding gives a constant column a tiny deviation, which would blow up whatever else comes at serving.
    constant = summary[f"{name}:min"] == summary[f"{name}:max"]
    return MomentsTransform(
        mean=rounded(summary[f"{name}:mean"] or 0.0),
        std=0.0 if constant else rounded(summary[f"{name}:std"]),
        log1p=feature.transform == "log1p",
        has_missing=summary[f"{name}:count"] < summary[_ROWS],
    )


def rounded(value: float) -> float:
    """Twelve digits: what depends on the order in which threads added up is cut off."""
    return float(f"{value:.12g}")


def _check_size(name: str, feature: VectorFeature, summary: _Summary) -> None:
    for found in (summary[f"{name}:min"], summary[f"{name}:max"]):
        if found not in {None, feature.size}:
            rule = f"must hold vectors of size {feature.size}, as features.{name}.size says"
            raise DataError(f"samples: column {feature_column(name)!r} {rule}. Received one of size {found}.")


def _id(name: str, feature: CategoricalFeature | ListFeature, counts: IdCounts) -> VocabularyTransform | HashTransform:
    bag = None
    if isinstance(feature, ListFeature):
        bag = Bag(length=feature.max_length, pooling=feature.pooling, separator=feature.separator)
    if feature.encoding == "hash":
        return HashTransform(buckets=feature.buckets, key=HASH_KEY, dim=feature.dim, bag=bag)
    frequent = counts.frequent(name, feature.min_count)
    values = frequent if feature.max_size is None else frequent.head(feature.max_size)
    return VocabularyTransform(values=tuple(values), dim=feature.dim, bag=bag)
