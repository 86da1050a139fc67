"""`onehull.features.measure` as a Beam pipeline: the same transform, from as many machines as a runner has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from onehull.beam.runner import pipeline_options, require_beam
from onehull.features import IdCounts, Measured, Transform, analyze
from onehull.features.analyze import rounded
from onehull.features.columns import check_columns
from onehull.features.counts import COUNT, VALUE, bounded, ordered
from onehull.features.transform import (
    BucketsTransform,
    FeatureTransform,
    MomentsTransform,
    VectorTransform,
    VocabularyTransform,
)
from onehull.spec.features import CategoricalFeature, Feature, ListFeature, NumericFeature, VectorFeature

if TYPE_CHECKING:
    from onehull.beam.measuring import Found


def measure_on_beam(
    features: Mapping[str, Feature], samples: str | Path, workspace: str | Path, options: str = ""
) -> Measured:
    """Measures the features of the training rows with TensorFlow Transform.

    Vocabularies and counts are those of `onehull.features.measure`, moments agree with its to the digits that the order
    of additions leaves (1e-5 is promised, 1e-12 usual), and the rank of a bucket's boundary differs by no more than
    `onehull.beam.analyzers.sketch_epsilon` + 1 / `RANKS`, by nothing at all below 5,000 values.

    TensorFlow Transform orders equally frequent ids from the last to the first text and cuts there; the frequencies are
    read from it, and order and limits are ours.

    Args:
        features: the spec's features.
        samples: the Parquet file of the samples table (`onehull.spec.samples`), under a path that all workers see.
        workspace: an empty directory for what workers exchange, under a path that all of them see.
        options: Beam's flags (`onehull.beam.runner.pipeline_options`).

    Raises:
        DataError: a column is absent or of another type, or there are no training rows.
        MissingPartError: apache-beam or tensorflow-transform is not installed.
        RunnerError: the options cannot be read, or the pipeline failed.
    """
    require_beam("tensorflow_transform")
    table = pl.scan_parquet(samples)
    check_columns(features, table)
    from onehull.beam.measuring import find

    found = find(measured_features(features), str(samples), str(workspace), pipeline_options(options))
    counts = IdCounts({name: _ordered(counts) for name, counts in found.counts.items()})
    ids = {
        name: feature for name, feature in features.items() if isinstance(feature, (CategoricalFeature, ListFeature))
    }
    # With the counts at hand this reads no ids: the rules for them are in one place.
    places = analyze(ids, table, counts).features
    transform = Transform(features={name: places.get(name) or _number(f, name, found) for name, f in features.items()})
    known = {name: place.values for name, place in places.items() if isinstance(place, VocabularyTransform)}
    return Measured(transform, bounded(counts, known))


def measured_features(features: Mapping[str, Feature]) -> dict[str, Feature]:
    """Those that analysis looks at: hashed ids and vectors need none."""
    return {
        name: feature
        for name, feature in features.items()
        if not isinstance(feature, VectorFeature) and getattr(feature, "encoding", "vocabulary") == "vocabulary"
    }


def _ordered(counts: Mapping[str, int]) -> pl.DataFrame:
    table = pl.DataFrame({VALUE: list(counts), COUNT: list(counts.values())}, {VALUE: pl.String, COUNT: pl.Float64})
    return ordered(table.lazy()).collect()


def _number(feature: Feature, name: str, found: Found) -> FeatureTransform:
    if isinstance(feature, VectorFeature):
        return VectorTransform(size=feature.size)
    assert isinstance(feature, NumericFeature)  # noqa: S101  ids have their place already
    numbers = found.numbers[name]
    if feature.transform == "buckets":
        return BucketsTransform(boundaries=tuple(numbers[numbers < float("inf")].tolist()), dim=feature.dim)
    mean, std, has_missing = (float(number) for number in numbers)
    return MomentsTransform(
        mean=rounded(mean), std=rounded(std), log1p=feature.transform == "log1p", has_missing=has_missing > 0
    )
