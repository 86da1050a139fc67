"""How far the online store is behind the tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from onehull.errors import ArtifactError
from onehull.spec import Spec
from onehull.store.connect import answering, connect, pushed_file
from onehull.store.materialize import answering_share, pending, pushed_rows
from onehull.store.views import FROM, all_rows, latest_rows, spec_views


@dataclass(frozen=True)
class ViewStatus:
    """One view of a repository."""

    view: str
    ids: int
    """Ids with a value that counts now, in the table."""
    waiting: int
    """Of them, those whose value the online store was not given yet, and ids to withdraw."""
    materialized: datetime | None
    """When values were brought online last; None: never."""
    newest: datetime | None
    """The moment from which the newest value online counts."""
    online: str
    """Whether the online store answers for what it was given: ``answers``, ``lost values``, or why it does not."""


def status(spec: Spec, data_dir: Path, directory: Path, now: datetime | None = None) -> list[ViewStatus]:
    """The state of each view of a repository.

    Args:
        spec: the spec.
        data_dir: directory that its paths are relative to.
        directory: the repository.
        now: the moment, with a time zone. Default: when it is called.

    Raises:
        ArtifactError: there is no repository.
        DataError: a table is not as the spec says.
        MissingPartError: Feast is not installed.
    """
    moment = now or datetime.now(UTC)
    feast = connect(directory)
    found = []
    for view in spec_views(spec, data_dir):
        current = latest_rows(view, all_rows(view, spec), moment)
        given = pushed_rows(directory, view.entity)
        changed, gone = pending(current, given)
        when, newest, online = None, None, "nothing given yet"
        if given is not None:
            written = (directory / pushed_file(view.entity)).stat().st_mtime
            when, newest = datetime.fromtimestamp(written, UTC), given.select(pl.col(FROM).max()).item()
            try:
                with answering(directory):
                    online = "answers" if answering_share(feast, view.entity, given) == 1 else "lost values"
            except ArtifactError as error:
                online = str(error)
        found.append(ViewStatus(view.entity, len(current), len(changed) + len(gone), when, newest, online))
    return found
