"""How scores become one order, how the ranker serves, and what it watches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onehull.spec.section import Section


class Fusion(Section):
    """The formula that turns the scores of all tasks into one order."""

    formula: str | None = None
    """For example ``click^1.0 * (1 + watch)^0.5 + 4 * like - 20 * hate``. Default: the sum of the binary tasks."""


class Display(Section):
    """Columns of the item table that the page shows; they are never inputs of the model."""

    title: str | None = None
    subtitle: str | None = None
    duration_s: str | None = None
    """Column with the length of a video in seconds."""


class Serving(Section):
    """The ranking service. It listens on loopback unless told otherwise."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    engine: Literal["litert", "savedmodel"] = "litert"
    k: Annotated[int, Field(ge=1)] = 20
    """Items returned when a request does not say."""
    recall: Annotated[int, Field(ge=1)] = 500
    """Candidates drawn from the catalogue when a request names none."""
    max_candidates: Annotated[int, Field(ge=1)] = 2000
    display: Display = Display()


class Monitoring(Section):
    """What the running service compares with training before it calls itself degraded."""

    window_rows: Annotated[int, Field(ge=1)] = 5000
    """Scored rows over which shares and means are taken."""
    max_unseen_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Largest share of ids of one feature that training never saw."""
    max_missing_increase: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Largest increase of a feature's missing rate over training."""
