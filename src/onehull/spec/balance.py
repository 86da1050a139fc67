"""How the tasks' losses are normalised and weighted against each other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onehull.spec.section import Section

Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class _Balance(Section):
    weights: dict[str, Weight] = {}
    """Weight of each task; a task that is not named has weight 1."""
    normalizer: Literal["coverage", "labelled", "batch", "sum"] = "coverage"
    """What a task's summed loss is divided by: the expected number of labels (batch size × moving share of
    labelled rows), the labels of this batch, the batch size, or nothing."""


class StaticBalance(_Balance):
    """Fixed weights: the bar that every other method has to beat."""

    kind: Literal["static"] = "static"


class DwaBalance(_Balance):
    """Dynamic weight average (Liu et al., CVPR 2019), on windows of steps."""

    kind: Literal["dwa"]
    temperature: Annotated[float, Field(gt=0)] = 2.0
    window_steps: Annotated[int, Field(ge=1)] = 1000


class PcgradBalance(_Balance):
    """Project conflicting gradients (Yu et al., NeurIPS 2020)."""

    kind: Literal["pcgrad"]
    seed: Annotated[int, Field(ge=0)] = 0


Balance = Annotated[StaticBalance | DwaBalance | PcgradBalance, Field(discriminator="kind")]
