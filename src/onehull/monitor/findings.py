"""What the guard found: figures of every feature and task, and those that are beyond a limit."""

from __future__ import annotations

from typing import Literal

from onehull.errors import Fault
from onehull.spec.leakage import Leakage
from onehull.spec.section import Section

Level = Literal["leak", "suspicious", "allowed"]
Sign = Literal["auc", "correlation", "information", "missing", "newer"]


class FeatureScore(Section):
    """What one feature alone says about one task, on training rows that have a label."""

    feature: str
    task: str
    rows: int
    """Rows with a label."""
    entity_id: bool
    """The feature is the id of the user or the item itself: it is shown, and never refused."""
    auc: float | None = None
    """Binary; multi-class: the class that is told best. None also where there are too few rows of a class."""
    correlation: float | None = None
    """Regression: rank correlation."""
    information: float | None = None
    """Mutual information as a share of the label's entropy."""
    missing_low: float | None = None
    """Missing rate of the feature in the class (or half) where it is missing least."""
    missing_high: float | None = None
    """The same where it is missing most."""

    @property
    def strength(self) -> float:
        """0 for nothing, 1 for everything: what features are sorted by."""
        return max(2 * (self.auc or 0.5) - 1, abs(self.correlation or 0.0), self.information or 0.0)


class Finding(Section):
    """A figure beyond a limit."""

    level: Level
    sign: Sign
    feature: str
    task: str | None
    figure: float
    limit: float
    text: str
    """The figure in words."""

    def fault(self) -> Fault:
        """The same as a fault of the spec."""
        remedy = (
            "Remove the feature. If its value is known before the outcome, name it in leakage.allowed "
            f"(limit: leakage.{LIMITS[self.sign]})."
        )
        return Fault(f"features.{self.feature}", f"{_RULES[self.sign]}: {self.text}", remedy=remedy, has_value=False)

    def warning(self) -> str:
        """One line for the terminal."""
        allowed = ". Allowed by leakage.allowed" if self.level == "allowed" else ""
        return f"features.{self.feature} {_SEEN[self.sign]}: {self.text}{allowed}"


class LeakReport(Section):
    """What the guard looked at, and what it found."""

    rows: int
    """Training rows that were looked at."""
    training_rows: int
    scores: tuple[FeatureScore, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """What could not be looked at."""

    @property
    def leaks(self) -> list[Finding]:
        """What must not be trained on."""
        return [finding for finding in self.findings if finding.level == "leak"]

    @property
    def warnings(self) -> list[str]:
        """What a reader should look at."""
        return [finding.warning() for finding in self.findings if finding.level != "leak"]


def level_of(feature: str, settings: Leakage, *, leak: bool) -> Level:
    """What a figure beyond a limit means for a feature, which the author of the spec may have allowed."""
    if feature in settings.allowed:
        return "allowed"
    return "leak" if leak else "suspicious"


_RULES: dict[Sign, str] = {
    "auc": "must not tell a label by itself",
    "correlation": "must not tell a label by itself",
    "information": "must not tell a label by itself",
    "missing": "must not tell a label by being missing",
    "newer": "must not be newer than its impression",
}
_SEEN: dict[Sign, str] = {
    "auc": "tells much of a label by itself",
    "correlation": "tells much of a label by itself",
    "information": "tells much of a label by itself",
    "missing": "tells of a label by being missing",
    "newer": "is newer than some impressions",
}
LIMITS: dict[Sign, str] = {
    "auc": "auc",
    "correlation": "correlation",
    "information": "information",
    "missing": "missing_gap",
    "newer": "newer_share",
}
"""The field of the spec's section that holds the limit of each sign."""
