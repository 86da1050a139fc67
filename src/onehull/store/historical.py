"""Training samples from the store: for each row, what was known at its moment.

Feast's own `get_historical_features` (0.67) drops all but one of the rows that ask for the same id at the same moment,
drops a row whose id has values, but none yet at that moment, and by default sees rows that were written later
(feast#6615). Here each pair of id and moment is asked for once, under a number that the answer carries; every row then
takes the answer of its pair, and a row without one keeps its place with nothing known. What was written later cannot be
seen, because the stored moment is the one from which a row counts (`onehull.store.views.all_rows`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from onehull.events.columns import TIME_DTYPE
from onehull.events.sources import ENTITIES, KEY_OF
from onehull.spec.samples import TIME, feature_column
from onehull.store.connect import connect, offline_file
from onehull.store.views import FROM, FROM_US, KEY

if TYPE_CHECKING:
    from feast import FeatureStore

_PAIR = "_pair"
_MOMENT = "event_timestamp"  # the name by which Feast finds the moment


def historical(directory: Path, rows: pl.DataFrame) -> pl.DataFrame:
    """Joins the attributes of users and items that were known at each row's moment.

    Args:
        directory: the repository.
        rows: with ``time``, and ``user`` or ``item`` or both, as the samples table holds them.

    Returns:
        The same rows in the same order with a column ``x.FEATURE`` for each stored feature; nulls where the id or the
        moment is null, the id is not known, or nothing is known of it yet. The attributes equal those that assembly
        joins.

    Raises:
        ArtifactError: there is no repository.
        MissingPartError: Feast is not installed.
    """
    feast = connect(directory)
    views = {view.name for view in feast.list_feature_views()}
    for entity in ENTITIES:
        key = KEY_OF[entity]
        if entity in views and key in rows.columns:
            rows = _attach(feast, entity, key, rows, directory)
    return rows


def _attach(feast: FeatureStore, view: str, key: str, rows: pl.DataFrame, directory: Path) -> pl.DataFrame:
    moment = pl.col(TIME).cast(TIME_DTYPE)
    pairs = rows.select(pl.col(key).alias(KEY), moment.alias(_MOMENT)).drop_nulls().unique(maintain_order=True)
    pairs = pairs.with_row_index(_PAIR)
    answers = _ask(feast, view, pairs, directory)
    numbered = rows.join(
        pairs, left_on=[key, moment], right_on=[KEY, _MOMENT], how="left", maintain_order="left", coalesce=False
    )
    joined = numbered.join(answers, on=_PAIR, how="left", maintain_order="left")
    return joined.select(*rows.columns, *(column for column in answers.columns if column != _PAIR))


def _ask(feast: FeatureStore, view: str, pairs: pl.DataFrame, directory: Path) -> pl.DataFrame:
    """Feast's answers by the pair's number, in the dtypes of the stored rows."""
    schema = pl.read_parquet_schema(directory / offline_file(view))
    features = {name: dtype for name, dtype in schema.items() if name not in (KEY, FROM, FROM_US)}
    columns = [pl.col(name).cast(dtype).alias(feature_column(name)) for name, dtype in features.items()]
    if pairs.is_empty():
        empty = pl.DataFrame(schema={_PAIR: pairs.schema[_PAIR], **features})
        return empty.select(_PAIR, *columns)
    references = [f"{view}:{name}" for name in features]
    found = feast.get_historical_features(entity_df=pairs.to_pandas(), features=references).to_arrow()
    return pl.DataFrame(found).select(pl.col(_PAIR).cast(pairs.schema[_PAIR]), *columns)
