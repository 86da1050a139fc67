"""The feature store: where the ranker reads a user's attributes while it serves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onehull.spec.section import Duration, Section


class Store(Section):
    """Online reads of attributes (`onehull features`).

    No secret stands in a spec: user name and password of a Redis come from the environment variables
    ONEHULL_REDIS_USERNAME and ONEHULL_REDIS_PASSWORD.
    """

    online: Literal["sqlite", "redis"] = "sqlite"
    """``sqlite`` is a file beside the registry, for one machine. ``redis`` is a server that several rankers share."""
    redis: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+:\d{1,5}$")] = "127.0.0.1:6379"
    """Redis only: ``host:port``."""
    database: Annotated[int, Field(ge=0)] = 0
    """Redis only: number of the database."""
    tls: bool = False
    """Redis only: encrypt the connection."""
    stale_after: Duration | None = None
    """A value that counts from longer ago is told as stale by the ranker's notes and metrics; it is used all the same,
    as training does. Default: values do not age."""
