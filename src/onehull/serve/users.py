"""Finding a user to be: by a part of the id, or of an attribute."""

from __future__ import annotations

from typing import Any

import polars as pl

from onehull.serve.catalogue import EntityTable
from onehull.spec.bundle import ID_COLUMN
from onehull.spec.samples import feature_column

MAX_USERS = 200


class UserSearch:
    """Searches the bundle's users.

    Args:
        users: the table; None where the model knows no users.
    """

    def __init__(self, users: EntityTable | None) -> None:
        self._users = users
        self._text = _searchable(users) if users is not None else pl.Series([], dtype=pl.String)

    def find(self, query: str, limit: int) -> dict[str, Any]:
        """Users whose id or attributes contain a text, ids that begin with it first; without one a spread sample."""
        if self._users is None or not len(self._users):
            return {"users": [], "total": 0}
        rows = self._rows(query.strip().lower())
        total = len(rows)
        if not query.strip():
            # An even spread shows more kinds of people than the head of the table.
            rows = [rows[place * total // min(limit, total)] for place in range(min(limit, total))]
        records = self._users.records(rows[:limit])
        return {"users": [{"id": r.id, "attributes": r.attributes} for r in records], "total": total}

    def _rows(self, query: str) -> list[int]:
        if not query:
            return list(range(len(self._text)))
        hits = self._text.str.contains(query, literal=True).arg_true().to_list()
        users = self._users
        assert users is not None  # noqa: S101  find has returned otherwise
        return sorted(hits, key=lambda row: (not users.ids[row].lower().startswith(query), row))


def _searchable(users: EntityTable) -> pl.Series:
    """One lower-case text a user: the id, then the text attributes."""
    columns = [ID_COLUMN, *(feature_column(name) for name in users.features)]
    texts = [pl.col(c) for c in columns if users.frame.schema[c] == pl.String]
    joined = pl.concat_str(texts, separator="\n", ignore_nulls=True).str.to_lowercase()
    return users.frame.select(joined.alias("text")).to_series()
