"""The feature store: users' and items' attributes in Feast, for training as of a moment and for serving as of now.

A repository is one directory (``OUT/feature_store``): Feast's registry and settings, each view's rows as Parquet, the
SQLite online store unless the spec names a Redis, and ``items.parquet``, which rankers keep in memory.

`apply` writes the definitions that a spec implies, `materialize` brings the latest values to the online store,
`historical` joins what was known at a moment, and `StoredUsers` reads one user while a request waits. Feast itself is
imported when one of them is called.
"""

from onehull.store.historical import historical
from onehull.store.materialize import Materialized, apply, materialize
from onehull.store.online import Outcome, StoredUsers, UserRead
from onehull.store.status import ViewStatus, status

__all__ = [
    "Materialized",
    "Outcome",
    "StoredUsers",
    "UserRead",
    "ViewStatus",
    "apply",
    "historical",
    "materialize",
    "status",
]
