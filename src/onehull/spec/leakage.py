"""When a feature knows too much: what assembly refuses, and what it only warns of."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from onehull.spec.section import Name, Section

Share = Annotated[float, Field(gt=0.0, le=1.0)]


class Leakage(Section):
    """Features that tell a label by themselves are refused before anything is trained on them.

    Measured for each feature alone and each task, on training rows with a label. At a limit the feature is refused; at
    the limit that begins with ``suspicious`` there is a warning. Ids of the users and items themselves are never
    refused.
    """

    auc: Share = 0.98
    """Binary and multi-class tasks: AUC of the feature alone. Of numbers by value, in the better of both directions; of
    ids by the mean label of other rows with that id."""
    suspicious_auc: Share = 0.9
    correlation: Share = 0.98
    """Regression tasks: rank correlation between feature and label, regardless of its sign."""
    suspicious_correlation: Share = 0.9
    information: Share = 0.9
    """Mutual information of feature and label, as a share of the label's entropy."""
    suspicious_information: Share = 0.6
    missing_gap: Share = 0.5
    """Difference of the feature's missing rate between two classes of a label, or between the upper and the lower half
    of a regression's labels."""
    suspicious_missing_gap: Share = 0.2
    newer_share: Share = 0.01
    """Share of rows in which a feature that holds moments is later than the impression. Below it there is a warning."""
    allowed: tuple[Name, ...] = ()
    """Features that are known to be there before the outcome, whatever the figures say: they are reported, not
    refused."""
    rows: Annotated[int, Field(ge=1000)] = 200_000
    """Largest number of training rows that are looked at, drawn at random."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the draw."""

    @field_validator("suspicious_auc", "suspicious_correlation", "suspicious_information", "suspicious_missing_gap")
    @classmethod
    def _warn_before_refusing(cls, value: float, info: ValidationInfo) -> float:
        refused = str(info.field_name).removeprefix("suspicious_")
        limit = info.data.get(refused, 1.0)
        if value > limit:
            raise ValueError(f"must not be above leakage.{refused}, which is {limit}")
        return value
