"""The data report as data: what became of the raw input on its way to the samples table."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from onehull.errors import ArtifactError
from onehull.monitor.findings import LeakReport
from onehull.spec.section import Section

DATA_REPORT_JSON, DATA_REPORT_HTML = "data_report.json", "data_report.html"

Stretch = Literal["day", "week", "month", "part"]


class Stage(Section):
    """One stop between the raw input and the model: what arrived, and what was left behind on the way to the next."""

    name: str
    count: int
    left: dict[str, int] = {}


class Labels(Section):
    """Labels of one task in one stretch of time."""

    known: int
    mean: float | None
    """Rate of a binary task; mean label otherwise."""
    deviation: float | None
    """Standard deviation of the known labels."""


class Period(Section):
    """One stretch of time, or one part of the samples where they have no time."""

    name: str
    rows: int
    tasks: dict[str, Labels]


class Delay(Section):
    """How long after its impression the feedback of a task comes."""

    task: str
    window_s: float
    events: int
    """Feedback inside the window that was looked at; one of each kind an impression and moment."""
    after: int
    """The same, after the window: it counts for nothing."""
    seconds: tuple[float, ...] = ()
    """Delays inside the window at evenly spaced shares of the events, from the shortest to the longest."""


class Example(Section):
    """One rejected line."""

    file: str
    line: int
    detail: str
    raw: str


class Rejected(Section):
    """Lines that were rejected for one reason."""

    reason: str
    count: int
    examples: tuple[Example, ...]


class Move(Section):
    """A value, or a range of values, whose share has changed."""

    value: str
    first: float
    last: float


class FeatureDrift(Section):
    """How differently a feature is distributed on the last day."""

    feature: str
    psi: float
    """Population stability index: Σ (q − p) ln(q / p) over bins."""
    js: float
    """Jensen–Shannon divergence in bits, 0 … 1."""
    by_chance: float
    """PSI to be expected of two draws from one distribution, of that many rows and bins."""
    coordinate: int | None = None
    """Of a vector: which coordinate has drifted most."""
    moved: tuple[Move, ...]
    """What moved most."""

    @property
    def drifted(self) -> bool:
        """A PSI that the field takes for a shift, and that chance does not explain."""
        return self.psi >= 0.1 and self.psi >= 3 * self.by_chance


class Drift(Section):
    """The last day against the first."""

    first: str
    last: str
    rows_first: int
    rows_last: int
    features: tuple[FeatureDrift, ...]
    """The strongest first."""


class DataReport(Section):
    """What assembly made of the input."""

    name: str
    simulated: str | None
    rows: int
    users: int
    items: int
    time_first: datetime | None
    time_last: datetime | None
    stages: tuple[Stage, ...]
    by: Stretch
    """What a period is."""
    periods: tuple[Period, ...]
    kinds: dict[str, str]
    """Kind of each task."""
    delays: tuple[Delay, ...]
    delays_share: float
    """Share of the lines of feedback that was looked at."""
    rejected: tuple[Rejected, ...]
    leakage: LeakReport
    drift: Drift | None
    """None where there is one day (or part) only."""
    notes: tuple[str, ...]


def read_data_report(directory: Path) -> DataReport:
    """Reads the data report beside a samples table.

    Raises:
        ArtifactError: it is missing or not readable.
    """
    path = directory / DATA_REPORT_JSON
    try:
        return DataReport.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}. Make it with: onehull assemble") from error
