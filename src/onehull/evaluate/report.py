"""The report as data: what ``report.json`` holds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

from onehull.spec.samples import SplitName
from onehull.spec.section import Section

Value = int | float | None
Points = tuple[float, ...]
Verdict = Literal["better", "worse", "no difference shown", "undefined"]


class Roc(Section):
    """Points of the ROC curve from (0, 0) to (1, 1)."""

    false_positive_rate: Points
    true_positive_rate: Points


class Bins(Section):
    """Means over bins of about equal size: of the prediction, or of another quantity."""

    position: Points
    """Mean of what the bins are made of: the prediction, or the duration."""
    prediction: Points
    """Mean prediction."""
    label: Points
    """Mean label."""
    deviation: Points
    """Standard deviation of the labels within the bin."""
    rows: tuple[int, ...]


class Constant(Section):
    """The predictor that says the same number for every row."""

    value: float
    source: Literal["train", "split"]
    """The mean label of training, or of the evaluated rows themselves (which favours the constant)."""
    rmse: float


class TaskReport(Section):
    """One task on its own sample space: the rows where its label exists."""

    kind: Literal["binary", "regression", "multiclass"]
    metrics: dict[str, Value]
    """See `onehull.metrics.task_metrics`; null is undefined."""
    roc: Roc | None = None
    calibration: Bins | None = None
    """By the prediction, for binary and regression tasks."""
    by_duration: Bins | None = None
    """By the duration, for regression tasks."""
    constant: Constant | None = None
    """For regression tasks: the error that a model must beat."""


class Difference(Section):
    """A task's metric in this model and in its single-task model, on the same rows."""

    metric: Literal["auc", "rmse", "log_loss"]
    lower_is_better: bool
    value: float | None
    baseline: float | None
    difference: float | None
    """value - baseline."""
    low: float | None
    """Lower end of the 95 % interval of the difference."""
    high: float | None
    verdict: Verdict
    """From the interval: better or worse only where it leaves out 0."""
    negative_transfer: bool
    """Sharing made this task worse."""


class Comparison(Section):
    """This model against one model a task, by a paired bootstrap."""

    tasks: dict[str, Difference]
    delta_m: float | None
    """Mean relative gain over the tasks, per cent (Maninis et al. 2019)."""
    delta_m_low: float | None
    delta_m_high: float | None
    delta_m_lift: float | None
    """The same with AUC counted as its lift over 0.5, which raw AUC compresses."""
    resamples: int
    resampled: Literal["user", "row"]
    """What was drawn with replacement."""


class Costs(Section):
    """Parameters of the model beside independent models with the same layers."""

    total: int
    shared: int
    """Used by two or more tasks."""
    by_task: dict[str, int]
    """Used by one task only."""
    independent: int
    """Of one model a task."""
    total_bytes: int
    independent_bytes: int


class GateUse(Section):
    """What one gate of a mixture of experts chooses, as means over the rows."""

    task: str
    """Whose gate it is: a task, a group of tasks, the shared stream, or an expert of the next level."""
    level: int
    """Of the experts, counted from the input."""
    experts: tuple[str, ...]
    mean_weights: Points
    """One for each expert; they sum to 1."""
    entropy_nats: float
    entropy_share: float
    """Of the largest possible: 1 is indifferent, 0 chooses one expert for each row."""
    mean_largest: float
    """Mean of each row's largest weight."""


class ExpertUse(Section):
    """How much of one expert is alive."""

    expert: str
    level: int
    units: int
    """Width of its output."""
    dead: float
    """Share of units that are 0 on every row."""
    zeros: float
    """Share of zeros among units × rows."""
    largest_weight: float | None
    """The largest of the mean weights that gates give it; null where it is read without a gate."""
    collapsed: bool
    """No gate gives it a tenth of an equal share, or all of its units are dead."""


class Experts(Section):
    """How the model uses its experts, on a sample of the validation part."""

    rows: int
    gates: tuple[GateUse, ...]
    experts: tuple[ExpertUse, ...]
    collapsed: tuple[str, ...]
    """Experts that the model might as well not have."""
    polarised: tuple[str, ...]
    """Gates that take about everything from one expert, on almost every row."""


Matrix = tuple[tuple[float | None, ...], ...]


class Conflicts(Section):
    """Cosines between the gradients of the tasks: below 0, two tasks pull the shared layers apart."""

    tasks: tuple[str, ...]
    by_epoch: tuple[Matrix, ...]
    """Mean cosines of each epoch, ``(T, T)``; null where a pair had no labels in the same batch."""

    def mean(self) -> Matrix:
        """Mean over the epochs."""
        size = range(len(self.tasks))
        return tuple(tuple(_mean([matrix[i][j] for matrix in self.by_epoch]) for j in size) for i in size)

    def pairs(self) -> list[tuple[str, str, float]]:
        """Pairs of tasks with their mean cosine, the strongest conflict first."""
        matrix = self.mean()
        indexed = [(i, j, matrix[i][j]) for i, j in combinations(range(len(self.tasks)), 2)]
        known = [(self.tasks[i], self.tasks[j], cosine) for i, j, cosine in indexed if cosine is not None]
        return sorted(known, key=lambda pair: pair[2])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


class Report(Section):
    """What a model does on one part of the samples."""

    format: int = 1
    name: str
    split: SplitName
    rows: int
    users: int | None
    """Different users; null where the rows have none."""
    simulated: str | None = None
    """What the data say about being simulated."""
    tasks: dict[str, TaskReport]
    comparison: Comparison | None = None
    costs: Costs | None = None
    experts: Experts | None = None
    """Only of models with gates."""
    conflicts: Conflicts | None = None
    """Only of trainings that compared gradients."""
    history: tuple[dict[str, Value], ...] = ()
    """One entry an epoch: ``TASK_loss`` on training, ``val_TASK_loss`` on validation, and whatever else was logged."""
