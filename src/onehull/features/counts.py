"""How often each id occurred, over days: what decides which ids have a row of their own.

A vocabulary forgets the ids that it left out, so that an id which is seen once a day would never enter it. The counts
are what it is grown from (`onehull.features.grow`): of all ids, decayed a step at a time, and bounded in number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from onehull.errors import ArtifactError
from onehull.features import columns
from onehull.files import replacing
from onehull.spec.features import CategoricalFeature, Feature, ListFeature

DECAY = 0.9
"""What a count is worth a step later: it halves in six and a half days."""
FLOOR = 0.1
"""A count below this is forgotten. An id that comes again starts at no less than 1, so that ten times as much has gone
since: all that was ever forgotten of an id adds up to less than FLOOR / (1 − FLOOR), a ninth of one sight."""
MAX_WAITING = 1_000_000
"""Ids of one feature that are counted and have no row. Where there are more, the least frequent start again from 0."""

VALUE, COUNT = "value", "count"
_FEATURE = "feature"
_SCHEMA: dict[str, pl.DataType] = {VALUE: pl.String(), COUNT: pl.Float64()}


@dataclass(frozen=True)
class IdCounts:
    """Decayed counts of the ids of each vocabulary feature.

    Attributes:
        tables: by feature, columns ``value`` (String, each once) and ``count`` (Float64), the most frequent first, ties
            in the order of the text.
    """

    tables: Mapping[str, pl.DataFrame]

    def frequent(self, feature: str, min_count: int) -> pl.Series:
        """Ids that occurred at least so often, the most frequent first."""
        return self.tables[feature].filter(pl.col(COUNT) >= min_count)[VALUE]

    def save(self, path: str | Path) -> None:
        """Writes one Parquet file; it appears whole or not at all.

        Raises:
            ArtifactError: the disk is full or the directory cannot be written.
        """
        path = Path(path)
        empty = pl.DataFrame(schema={_FEATURE: pl.String(), **_SCHEMA})
        parts = [table.select(pl.lit(name).alias(_FEATURE), VALUE, COUNT) for name, table in self.tables.items()]
        try:
            with replacing(path) as temporary:
                pl.concat([empty, *parts]).write_parquet(temporary)
        except (OSError, pl.exceptions.PolarsError) as error:
            remedy = "What stood there before is intact. Free some space or choose another directory."
            raise ArtifactError(f"{path} cannot be written: {error}. {remedy}") from error

    @classmethod
    def load(cls, path: str | Path) -> IdCounts:
        """Reads what `save` wrote; a feature without ids is absent.

        Raises:
            ArtifactError: no such file, or one that holds no counts.
        """
        try:
            table = pl.read_parquet(path).select(
                pl.col(name).cast(dtype) for name, dtype in ({_FEATURE: pl.String()} | _SCHEMA).items()
            )
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ArtifactError(f"{path} holds no counts of ids: {error}. Prepare the data again.") from error
        parts = table.partition_by(_FEATURE, as_dict=True, maintain_order=True, include_key=False)
        return cls({str(name): part for (name,), part in parts.items()})


def count_ids(features: Mapping[str, Feature], samples: pl.LazyFrame) -> IdCounts:
    """Counts the ids of the training rows, without a bound.

    Args:
        features: the spec's features; those with a vocabulary are counted.
        samples: the samples table (`onehull.spec.samples`).

    Raises:
        DataError: a column is absent or of another type.
    """
    columns.check_columns(features, samples)
    train = columns.rows_of(samples, "train")
    queries = {
        name: ordered(_values(name, feature, train).group_by(VALUE).agg(pl.len().cast(pl.Float64).alias(COUNT)))
        for name, feature in features.items()
        if isinstance(feature, (CategoricalFeature, ListFeature)) and feature.encoding == "vocabulary"
    }
    tables = pl.collect_all(list(queries.values()), engine="streaming")
    return IdCounts(dict(zip(queries, tables, strict=True)))


def add_counts(old: IdCounts, new: IdCounts, decay: float = DECAY) -> IdCounts:
    """``decay · old + new``, id by id, without a bound.

    Raises:
        ValueError: `decay` is not in 0 … 1.
    """
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"decay must be in 0 … 1. Received {decay}.")
    empty = pl.DataFrame(schema=_SCHEMA)
    found: dict[str, pl.DataFrame] = {}
    for name, table in new.tables.items():
        aged = old.tables.get(name, empty).with_columns(pl.col(COUNT) * decay)
        both = aged.lazy().join(table.lazy(), on=VALUE, how="full", coalesce=True, suffix="_new")
        total = pl.col(COUNT).fill_null(0.0) + pl.col(f"{COUNT}_new").fill_null(0.0)
        found[name] = ordered(both.select(VALUE, total.alias(COUNT))).collect()
    return IdCounts(found)


def bounded(counts: IdCounts, known: Mapping[str, tuple[str, ...]], most: int = MAX_WAITING) -> IdCounts:
    """Forgets what is not worth keeping: counts below `FLOOR`, and of the ids without a row all but the most frequent.

    Args:
        counts: of all ids.
        known: by feature, the ids that have a row.
        most: ids of one feature that are kept without having a row.
    """
    found: dict[str, pl.DataFrame] = {}
    for name, table in counts.tables.items():
        worth = table.filter(pl.col(COUNT) >= FLOOR)
        if len(worth) > most:  # else no id can be one too many
            rows = pl.Series(VALUE, known.get(name, ()), pl.String)
            has_row = pl.col(VALUE).is_in(rows.implode())
            worth = worth.filter(has_row | ((~has_row).cum_sum() <= most))
        found[name] = worth
    return IdCounts(found)


def _values(name: str, feature: CategoricalFeature | ListFeature, train: pl.LazyFrame) -> pl.LazyFrame:
    if isinstance(feature, ListFeature):
        # Ids beyond the longest list that the model gets are never looked up.
        lists = columns.id_lists(name, feature.max_length)
        return train.select(lists.alias(VALUE)).drop_nulls().explode(VALUE)
    return train.select(columns.ids(name).alias(VALUE)).drop_nulls()


def ordered(table: pl.LazyFrame) -> pl.LazyFrame:
    """Counts in the order of a vocabulary: the most frequent first, ties in the order of the text."""
    return table.sort([COUNT, VALUE], descending=[True, False])
