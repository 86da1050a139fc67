"""Yesterday's transform and today's rows → today's transform, in which nothing that a model has learned moves.

What a trained model was fitted to stays as it is: mean and deviation of numbers, boundaries of buckets, sizes, and the
place of every id that still occurs. Moved moments would shift every input of a trained network at once, and a moved
boundary gives a row another meaning; drift of numbers is for the monitor to show and for a full training to follow.
What follows the day are the vocabularies, which get the ids that have become frequent enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from onehull.errors import DataError
from onehull.features import columns
from onehull.features.analyze import analyze
from onehull.features.counts import COUNT, DECAY, VALUE, IdCounts, add_counts, bounded, count_ids
from onehull.features.transform import (
    BucketsTransform,
    FeatureTransform,
    HashTransform,
    MomentsTransform,
    Transform,
    VectorTransform,
    VocabularyTransform,
)
from onehull.spec.features import CategoricalFeature, Feature, ListFeature, NumericFeature
from onehull.spec.inputs import FIRST_ID
from onehull.spec.samples import SPLIT


@dataclass(frozen=True)
class Measured:
    """What a day's rows say of the features.

    Attributes:
        transform: raw values → encoded inputs.
        counts: of this day's ids and of those before, bounded; the next growth starts from them.
    """

    transform: Transform
    counts: IdCounts


def measure(features: Mapping[str, Feature], samples: pl.LazyFrame) -> Measured:
    """The first day: `analyze`, with the counts that the next one grows from.

    Args:
        features: the spec's features.
        samples: the samples table (`onehull.spec.samples`).

    Raises:
        DataError: as `analyze`.
    """
    counts = count_ids(features, samples)
    transform = analyze(features, samples, counts)
    known = {name: f.values for name, f in transform.features.items() if isinstance(f, VocabularyTransform)}
    return Measured(transform, bounded(counts, known))


def grow(
    features: Mapping[str, Feature],
    transform: Transform,
    counts: IdCounts,
    samples: pl.LazyFrame,
    *,
    decay: float = DECAY,
) -> Measured:
    """Adds today's ids to the vocabularies of a transform.

    An id enters when its decayed count reaches the feature's `min_count`. New ids are appended, the most frequent
    first, ties in the order of the text. A vocabulary of `max_size` ids takes one in only for one whose decayed count
    has fallen below `min_count`: the new id gets its place, the least frequent one going first. Without `max_size` no
    id ever leaves.

    Args:
        features: the spec's features; `min_count` and `max_size` may have changed since.
        transform: yesterday's.
        counts: yesterday's.
        samples: today's samples table (`onehull.spec.samples`); training rows count.
        decay: what yesterday's counts are worth today, 0 … 1.

    Raises:
        DataError: a column is absent or of another type, or there are no training rows.
        ValueError: the features are not those of the transform, or `decay` is not in 0 … 1.
    """
    _check_same(features, transform)
    today = count_ids(features, samples)
    if not columns.rows_of(samples, "train").limit(1).collect().height:
        raise DataError(f"samples: column {SPLIT!r} must name at least one row 'train'. Received none.")
    total = add_counts(counts, today, decay)
    found: dict[str, FeatureTransform] = {}
    known: dict[str, tuple[str, ...]] = {}
    for name, old in transform.features.items():
        found[name] = old
        if isinstance(old, VocabularyTransform):
            feature = features[name]
            assert isinstance(feature, (CategoricalFeature, ListFeature))  # noqa: S101  `_check_same` saw to it
            known[name] = _grown(old.values, total.tables[name], feature.min_count, feature.max_size)
            found[name] = old.model_copy(update={"values": known[name]})
    return Measured(Transform(features=found), bounded(total, known))


def new_rows(old: Transform, new: Transform) -> dict[str, np.ndarray]:
    """Rows whose id is not the one that they had: what a model that is grown must not take over.

    Returns:
        By vocabulary feature, ascending rows of its embedding in the new transform, int64 ``(N,)``.

    Raises:
        ValueError: the new transform was not grown from the old one: a feature differs, an id has moved, or a
            vocabulary is shorter.
    """
    if list(old.features) != list(new.features):
        raise ValueError(f"features must be those of the transform. Received {list(new.features)}.")
    found: dict[str, np.ndarray] = {}
    for name, before in old.features.items():
        after = new.features[name]
        if not isinstance(before, VocabularyTransform) or not isinstance(after, VocabularyTransform):
            if before != after:
                raise ValueError(f"feature {name!r} must be transformed as before. Received {after}.")
            continue
        if before.model_copy(update={"values": after.values}) != after:
            raise ValueError(f"feature {name!r} must keep its width and its lists. Received {after.dim}, {after.bag}.")
        found[name] = _changed(name, before.values, after.values)
    return found


def _grown(values: tuple[str, ...], counts: pl.DataFrame, min_count: int, max_size: int | None) -> tuple[str, ...]:
    rows = pl.DataFrame({VALUE: pl.Series(values, dtype=pl.String)}).with_row_index("place")
    frequent = counts.filter(pl.col(COUNT) >= min_count)
    entering = frequent.join(rows, on=VALUE, how="anti", maintain_order="left")[VALUE]
    if max_size is None:
        return (*values, *entering)
    room = max(0, max_size - len(values))
    grown = [*values, *entering.head(room)]
    if room < len(entering):
        counted = rows.join(counts, on=VALUE, how="left").with_columns(pl.col(COUNT).fill_null(0.0))
        leaving = counted.filter(pl.col(COUNT) < min_count).sort([COUNT, VALUE])["place"]
        for place, value in zip(leaving, entering[room:], strict=False):
            grown[place] = value
    return tuple(grown)


def _changed(name: str, before: tuple[str, ...], after: tuple[str, ...]) -> np.ndarray:
    if len(after) < len(before):
        raise ValueError(f"feature {name!r} must keep its {len(before)} rows. Received {len(after)}.")
    places = np.array([p for p, value in enumerate(after) if p >= len(before) or before[p] != value], np.int64)
    old = set(before)
    moved = next((after[place] for place in places if after[place] in old), None)
    if moved is not None:
        raise ValueError(f"feature {name!r} must keep the places of its ids. Received {moved!r} at another one.")
    return FIRST_ID + places


def _check_same(features: Mapping[str, Feature], transform: Transform) -> None:
    if features.keys() != transform.features.keys():
        rule = f"features must be those of the transform, {list(transform.features)}"
        raise ValueError(f"{rule}. Received {list(features)}.")
    for name, feature in features.items():
        expected = _kind(feature)
        if not isinstance(transform.features[name], expected):
            found = type(transform.features[name]).__name__
            raise ValueError(f"feature {name!r} must be transformed by {found}, as before. Received {feature.kind!r}.")


def _kind(feature: Feature) -> type[FeatureTransform]:
    if isinstance(feature, NumericFeature):
        return BucketsTransform if feature.transform == "buckets" else MomentsTransform
    if isinstance(feature, (CategoricalFeature, ListFeature)):
        return HashTransform if feature.encoding == "hash" else VocabularyTransform
    return VectorTransform
