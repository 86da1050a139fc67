"""How a quantity such as watch time is learned: one section a kind of head.

All heads predict the expected label on its own scale. Their fields are the arguments of the kind's head and loss in
`onehull.model.duration`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onehull.spec.section import Section

Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Linear(Section):
    """One linear output; the task's `transform` and `loss` say on which scale, and how errors count."""

    kind: Literal["linear"] = "linear"


class Log1p(Section):
    """Mean of log(1 + y), turned back with a smearing factor (Duan, 1983), so that the sum of predictions is right."""

    kind: Literal["log1p"]
    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    """Of the moving average over batches that follows the factor."""


class Wlr(Section):
    """Odds of weighted logistic regression are the expected label (Covington et al., RecSys 2016)."""

    kind: Literal["wlr"]


class D2q(Section):
    """Level of the label among labels of a like duration, turned back by their quantiles (D2Q; Zhan et al., KDD 2022).

    Without a `duration` all labels are one group.
    """

    kind: Literal["d2q"]


class Cread(Section):
    """Probabilities that the label exceeds each of many thresholds, and their sum (CREAD; Sun et al., AAAI 2024)."""

    kind: Literal["cread"]
    thresholds: Annotated[int, Field(ge=2, le=256)] = 32
    """Largest number of thresholds; equal ones count once."""
    tail: Annotated[float, Field(ge=0.0, le=10.0)] = 3.0
    """0 puts as many labels between any two thresholds; more brings them closer together among long durations."""
    restoration: Weight = 0.3
    """Weight of the error of the sum, beside the cross-entropy."""
    order: Weight = 1.0
    """Weight of the penalty on a threshold that is exceeded more probably than the one before it."""


class Quantile(Section):
    """Quantiles that cannot cross, learned with the pinball loss, and their mean (CQE; Lin et al., 2024)."""

    kind: Literal["quantile"]
    levels: Annotated[int, Field(ge=2, le=256)] = 32
    """Number of quantiles, at evenly spaced levels."""


Head = Annotated[Linear | Log1p | Wlr | D2q | Cread | Quantile, Field(discriminator="kind")]
