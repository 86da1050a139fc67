"""When a sample whose label comes late may leave a streamed log, and how training corrects for what has not come."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from onehull.spec.section import Duration, Section


class Fnw(Section):
    """Fake-negative weighting (Ktena et al., RecSys 2019): a negative at once, and again when the event comes."""

    kind: Literal["fnw"]

    @property
    def wait(self) -> timedelta:
        """No time at all."""
        return timedelta(0)


class EsDfm(Section):
    """Elapsed-time sampling (ES-DFM; Yang et al., AAAI 2021): after a wait as it is, and again when it comes."""

    kind: Literal["es_dfm"]
    wait: Duration
    """How long after the impression the sample leaves for the first time."""


class Defer(Section):
    """Real negatives, too (DEFER; Gu et al., KDD 2021): as it is after a while, and every sample again at its end."""

    kind: Literal["defer"]
    wait: Duration
    """How long after the impression the sample leaves for the first time."""


Late = Annotated[Fnw | EsDfm | Defer, Field(discriminator="kind")]
