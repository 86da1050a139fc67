"""From a spec's tables to the store: definitions and all rows (`apply`), the latest values online (`materialize`)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from onehull.errors import ArtifactError
from onehull.events.atomic import writable
from onehull.events.entities import load_entities
from onehull.files import replacing
from onehull.spec import Spec
from onehull.store.connect import (
    ITEMS,
    SETTINGS,
    SQLITE,
    answering,
    connect,
    import_feast,
    offline_file,
    pushed_file,
    write_settings,
)
from onehull.store.definitions import define
from onehull.store.views import FROM, FROM_US, KEY, View, all_rows, latest_rows, spec_views

if TYPE_CHECKING:
    from feast import FeatureStore

WITHDRAWN_US = -1
"""`FROM_US` of an id that has left its table: Feast deletes no single entity, so its values are overwritten."""

_BATCH = 10_000
_PROBED = 20
_TEXT = "as text"


@dataclass(frozen=True)
class Materialized:
    """What a materialization did to one view."""

    view: str
    ids: int
    """Ids with a value that counts now."""
    written: int
    """Ids whose value was new, had changed or was not in the online store."""
    withdrawn: int
    """Ids that have left the table; the online store calls them missing from now on."""


def apply(spec: Spec, data_dir: Path, directory: Path) -> list[View]:
    """Makes a repository, or brings it to the spec: settings, all rows of each view, Feast's definitions.

    Args:
        spec: the spec.
        data_dir: directory that its paths are relative to.
        directory: the repository; made when it is missing.

    Returns:
        The views.

    Raises:
        SpecError: no feature reads an attribute table.
        DataError: a table is not as the spec says.
        ArtifactError: the repository cannot be written, or the online store does not answer.
        MissingPartError: Feast is not installed.
    """
    import_feast()
    views = spec_views(spec, data_dir)
    with writable(directory):
        for view in views:
            _write(all_rows(view, spec), directory / offline_file(view.entity))
        write_settings(spec, directory)
        feast = connect(directory)
        with answering(directory):
            define(feast, spec.name, views)
        _let_readers_read(directory / SQLITE)
    return views


def materialize(
    spec: Spec, data_dir: Path, directory: Path, *, now: datetime | None = None, full: bool = False
) -> list[Materialized]:
    """Brings the values that count now to the online store, and the items to the file that rankers read.

    Only what has changed since the last time is written, by value, so that a row that was written late, or a
    correction of one moment, is not passed over as it would be by a range of event times. An online store that has lost
    its memory is noticed by a sample of ids, and filled again. Interrupted, it is done again.

    Args:
        spec: the spec that the repository was applied with.
        data_dir: directory that its paths are relative to.
        directory: the repository.
        now: the moment, with a time zone. Default: when it is called.
        full: write every value, changed or not.

    Raises:
        DataError: a table is not as the spec says.
        ArtifactError: there is no repository of this spec, it cannot be written, or the online store does not answer.
        MissingPartError: Feast is not installed.
    """
    moment = now or datetime.now(UTC)
    feast, views = connect(directory), spec_views(spec, data_dir)
    _check_applied(feast, views, directory)
    with writable(directory), answering(directory):
        done = [_materialize(feast, view, spec, directory, moment, full=full) for view in views]
        items = load_entities(spec, data_dir, "item", now=moment)
        if items is not None:
            _write(items, directory / ITEMS)
    return done


def pending(rows: pl.DataFrame, before: pl.DataFrame | None) -> tuple[pl.DataFrame, list[str]]:
    """What the online store lacks: rows that are new or differ, and ids that are no more.

    Args:
        rows: the latest row of each id.
        before: the rows that it was given last; None or rows with other columns: nothing of them counts.
    """
    if before is None or before.schema != rows.schema:
        return rows, []
    text = pl.struct(pl.exclude(KEY)).struct.json_encode().alias(_TEXT)
    was = before.select(KEY, text)
    differs = rows.select(KEY, text).join(was, on=KEY, how="left", suffix=" before", maintain_order="left")
    changed = rows.filter(differs[_TEXT].ne_missing(differs[f"{_TEXT} before"]))
    return changed, before.join(rows, on=KEY, how="anti")[KEY].to_list()


def pushed_rows(directory: Path, entity: str) -> pl.DataFrame | None:
    """The rows of a view that the online store was given last; None before the first time."""
    with suppress(OSError, pl.exceptions.PolarsError):
        return pl.read_parquet(directory / pushed_file(entity))
    return None


def answering_share(feast: FeatureStore, view: str, rows: pl.DataFrame) -> float:
    """The share of a sample of ids for which the online store has a value; 1 where there are no ids."""
    if rows.is_empty():
        return 1.0
    ids = rows[KEY].gather_every(max(1, len(rows) // _PROBED)).to_list()
    found = feast.get_online_features(features=[f"{view}:{FROM_US}"], entity_rows=[{KEY: key} for key in ids])
    values = found.to_dict()[FROM_US]
    return sum(value is not None for value in values) / len(values)


def _materialize(
    feast: FeatureStore, view: View, spec: Spec, directory: Path, now: datetime, *, full: bool
) -> Materialized:
    rows = all_rows(view, spec)
    _write(rows, directory / offline_file(view.entity))
    current = latest_rows(view, rows, now)
    before = None if full else pushed_rows(directory, view.entity)
    if before is not None and answering_share(feast, view.entity, before) < 1:
        before = None
    changed, gone = pending(current, before)
    for batch in (*changed.iter_slices(_BATCH), *_withdrawals(current, gone, now).iter_slices(_BATCH)):
        feast.write_to_online_store(view.entity, batch.to_pandas())
    _write(current, directory / pushed_file(view.entity))
    return Materialized(view.entity, len(current), len(changed), len(gone))


def _withdrawals(rows: pl.DataFrame, ids: Sequence[str], now: datetime) -> pl.DataFrame:
    """Rows without values for ids that are no more, in the columns of `rows`."""
    gone = pl.DataFrame({KEY: ids, FROM: [now] * len(ids), FROM_US: [WITHDRAWN_US] * len(ids)}, strict=False)
    return pl.concat([rows.clear(), gone.cast({FROM: rows.schema[FROM]})], how="diagonal")


def _check_applied(feast: FeatureStore, views: list[View], directory: Path) -> None:
    """The repository holds the views of this spec, each with its features."""
    registered = {view.name: {field.name for field in view.schema} for view in feast.list_feature_views()}
    wanted = {view.entity: {KEY, FROM_US, *view.features} for view in views}
    if registered != wanted:
        remedy = "Bring it to the spec with: onehull features apply SPEC"
        raise ArtifactError(f"{directory / SETTINGS} was made from another spec. {remedy}")


def _write(rows: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        rows.write_parquet(temporary)


def _let_readers_read(database: Path) -> None:
    """Sets a mode of SQLite, kept in the file, in which a materialization does not lock out the ranker's reads."""
    import sqlite3

    if database.exists():
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
