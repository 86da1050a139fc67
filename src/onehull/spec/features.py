"""The inputs of the model: categorical, numeric, list and vector features."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onehull.spec.section import Section

Size = Annotated[int, Field(ge=1)]


class _Feature(Section):
    column: str | None = None
    """Column of the log or of a table. Default: the feature's own name."""


class _IdFeature(_Feature):
    encoding: Literal["vocabulary", "hash"] = "vocabulary"
    """``vocabulary``: the ids seen in training, with a place for unseen ones. ``hash``: buckets, no analysis."""
    min_count: Size = 2
    """Vocabulary only: rarer ids share the place of unseen ids, which is thereby trained. An update (`onehull update`)
    counts over days."""
    max_size: Size | None = None
    """Vocabulary only: keep the most frequent ids. In an update, a new id then waits for one that has died out."""
    buckets: Size = 10_000
    """Hash only: number of buckets."""
    dim: Size | None = None
    """Width of the embedding. Default: `model.embedding_dim`."""


class CategoricalFeature(_IdFeature):
    """One id a row; a missing id is an ordinary value with an embedding of its own."""

    kind: Literal["categorical"]


class ListFeature(_IdFeature):
    """A bag of ids a row, embedded and pooled."""

    kind: Literal["list"]
    pooling: Literal["mean", "sum"] = "mean"
    max_length: Size = 16
    """Longer lists keep their first ids."""
    separator: str | None = None
    """Splits text such as ``a|b|c``. Default: the column already holds lists."""


class NumericFeature(_Feature):
    """A number; missing, NaN and infinite values become the mean, and a flag says so."""

    kind: Literal["numeric"]
    transform: Literal["zscore", "log1p", "buckets"] = "zscore"
    """``log1p`` is sign(x)·log(1+|x|), then z-score. ``buckets`` are quantiles, embedded."""
    buckets: Annotated[int, Field(ge=2, le=1000)] = 16
    """Buckets only: number of quantile buckets."""
    dim: Size | None = None
    """Buckets only: width of the embedding. Default: `model.embedding_dim`."""


class VectorFeature(_Feature):
    """A dense vector, for example a content embedding; missing is all zeros."""

    kind: Literal["vector"]
    size: Size


Feature = Annotated[CategoricalFeature | ListFeature | NumericFeature | VectorFeature, Field(discriminator="kind")]
