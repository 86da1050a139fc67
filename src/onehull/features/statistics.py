"""What training saw of each feature, for monitors that compare serving with it."""

from __future__ import annotations

import polars as pl

from onehull.features import columns
from onehull.features.transform import (
    BucketsTransform,
    FeatureTransform,
    MomentsTransform,
    Transform,
    VectorTransform,
    VocabularyTransform,
)
from onehull.spec.bundle import FeatureStatistics


def feature_statistics(transform: Transform, samples: pl.LazyFrame) -> dict[str, FeatureStatistics]:
    """Missing share on the training rows, unseen share on the validation rows, of each feature.

    Args:
        transform: what analysis found.
        samples: the samples table that it was found in.

    Returns:
        By feature: the share of rows without a value (an empty list is none), and the share of ids, among those that
        are there, outside the vocabulary; 0 for features without a vocabulary and where validation has no ids.
    """
    features = transform.features.items()
    missing = [_raw(name, feature).is_null().mean().alias(name) for name, feature in features]
    vocabularies = [(name, feature) for name, feature in features if isinstance(feature, VocabularyTransform)]
    # The row count keeps the query valid where no feature has a vocabulary; no feature has its name.
    unseen = [pl.len().alias(":rows"), *(_unseen(name, feature).alias(name) for name, feature in vocabularies)]
    train = columns.rows_of(samples, "train").select(missing)
    validation = columns.rows_of(samples, "validation").select(unseen)
    first, second = (table.row(0, named=True) for table in pl.collect_all([train, validation], engine="streaming"))
    return {
        name: FeatureStatistics(missing_share=first[name] or 0.0, unseen_share=second.get(name) or 0.0)
        for name in transform.features
    }


def _raw(name: str, feature: FeatureTransform) -> pl.Expr:
    if isinstance(feature, (MomentsTransform, BucketsTransform)):
        return columns.numbers(name)
    if isinstance(feature, VectorTransform):
        return columns.vectors(name)
    return columns.ids(name) if feature.bag is None else columns.id_lists(name, feature.bag.length)


def _unseen(name: str, feature: VocabularyTransform) -> pl.Expr:
    present = _raw(name, feature).drop_nulls()
    values = present if feature.bag is None else present.list.explode()
    return (~values.is_in(list(feature.values))).mean()
