"""What a head of durations must know of the training labels: records measure it, the model builds on it."""

from __future__ import annotations

from onehull.spec.section import Section


class DurationGroups(Section):
    """Labels in groups of about equally many rows whose duration is alike; ``G`` groups, ``Q`` levels."""

    feature: str
    """Feature that holds the duration."""
    centers: tuple[float, ...]
    """Mean encoded duration of each group, ascending; ``(G,)``."""
    quantiles: tuple[tuple[float, ...], ...]
    """Label at evenly spaced levels from 0 to 1, for each group; ``(G, Q)``."""


class LabelDistribution(Section):
    """How the labels of one regression task are distributed in the training part."""

    mean: float
    mean_log1p: float | None
    """Mean of log(1 + label), where all labels are above -1."""
    quantiles: tuple[float, ...]
    """Label at evenly spaced levels from 0 to 1."""
    groups: DurationGroups | None = None
    """The same by duration, where the task names a feature for it."""
