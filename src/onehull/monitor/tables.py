"""The tables of the data report as texts, for the page and for the terminal alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from onehull.evaluate.numerals import count, fixed, percent, significant
from onehull.monitor.findings import FeatureScore
from onehull.monitor.report import DataReport, Delay, FeatureDrift, Labels
from onehull.spec.section import format_duration

NONE = "–"
_TOP_FEATURES = 10
_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


@dataclass(frozen=True)
class TextTable:
    """Texts in rows; the first column is a name."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = ()
    """Columns that hold words and not figures."""


def stage_table(report: DataReport) -> TextTable:
    """What arrived at each stage, and what was left behind there."""
    rows = [
        (
            stage.name,
            count(stage.count),
            ", ".join(f"{count(rows)} {what}" for what, rows in stage.left.items()) or NONE,
        )
        for stage in report.stages
    ]
    return TextTable(("Stage", "Count", "Of these left behind"), tuple(rows), words=(2,))


def rate_table(report: DataReport) -> TextTable:
    """Label rate, or mean label, of each task in each period."""
    rows = [
        (period.name, count(period.rows), *(_mean(period.tasks[task], kind) for task, kind in report.kinds.items()))
        for period in report.periods
    ]
    return TextTable((report.by.title(), "Rows", *report.kinds), tuple(rows))


def missing_table(report: DataReport) -> TextTable:
    """Share of rows without a label of each task in each period."""
    rows = [
        (
            period.name,
            count(period.rows),
            *(percent(1 - labels.known / period.rows) for labels in period.tasks.values()),
        )
        for period in report.periods
    ]
    return TextTable((report.by.title(), "Rows", *report.kinds), tuple(rows))


def delay_table(report: DataReport) -> TextTable:
    """Delays against the window, by task."""
    columns = ("Task", "Window", "Events", "Half within", "90 % within", "99 % within", "After the window")
    return TextTable(columns, tuple(_delay_row(delay) for delay in report.delays))


def score_table(report: DataReport, task: str) -> TextTable:
    """The features that tell most of a task by themselves."""
    scores = sorted((one for one in report.leakage.scores if one.task == task), key=lambda one: -one.strength)
    figure = "Rank correlation" if report.kinds[task] == "regression" else "AUC"
    columns = ("Feature", figure, "Information", "Missing")
    return TextTable(columns, tuple(_score_row(one) for one in scores[:_TOP_FEATURES]))


def drift_table(report: DataReport) -> TextTable:
    """PSI of every feature, the largest first, and what moved."""
    features = report.drift.features if report.drift is not None else ()
    columns = ("Feature", "PSI", "By chance", "JS, bits", "What moved most")
    return TextTable(columns, tuple(_drift_row(one) for one in features), words=(4,))


def span(seconds: float) -> str:
    """``3.2 s``, ``5.4 min``, ``2.1 h``, ``1.3 d``."""
    for unit, name in _UNITS:
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} s"


def summary(report: DataReport) -> str:
    """One line: rows, users, items and the time from the first to the last."""
    parts = [f"{count(report.rows)} samples"]
    for number, what in ((report.users, "user"), (report.items, "item")):
        if number:
            parts.append(f"{count(number)} {what}{'s' if number != 1 else ''}")
    if report.time_first is not None and report.time_last is not None:
        parts.append(f"{report.time_first:%Y-%m-%d %H:%M} to {report.time_last:%Y-%m-%d %H:%M} UTC")
    return ", ".join(parts)


def _mean(labels: Labels, kind: str) -> str:
    if labels.mean is None:
        return NONE
    return percent(labels.mean) if kind == "binary" else significant(labels.mean, 3)


def _delay_row(delay: Delay) -> tuple[str, ...]:
    window = format_duration(timedelta(seconds=delay.window_s))
    total = delay.events + delay.after
    if not delay.events:
        return delay.task, window, count(total), NONE, NONE, NONE, percent(delay.after / total) if total else NONE
    steps = len(delay.seconds) - 1
    within = [span(_at(delay.seconds, share * steps)) for share in (0.5, 0.9, 0.99)]
    return delay.task, window, count(total), *within, percent(delay.after / total)


def _at(values: tuple[float, ...], place: float) -> float:
    """A value between two neighbours."""
    low = min(int(place), len(values) - 2)
    return values[low] + (place - low) * (values[low + 1] - values[low])


def _score_row(one: FeatureScore) -> tuple[str, ...]:
    figure = one.auc if one.auc is not None else one.correlation
    name = f"{one.feature} (id)" if one.entity_id else one.feature
    told = NONE if one.information is None else percent(one.information)
    return name, NONE if figure is None else fixed(figure), told, _missing(one)


def _missing(one: FeatureScore) -> str:
    """``2 %``, or ``0 % … 80 %`` where it depends on the label."""
    if one.missing_low is None or one.missing_high is None:
        return NONE
    low, high = percent(one.missing_low), percent(one.missing_high)
    return low if low == high else f"{low} … {high}"


def _drift_row(one: FeatureDrift) -> tuple[str, ...]:
    moved = "; ".join(f"{move.value}: {percent(move.first)} → {percent(move.last)}" for move in one.moved)
    name = one.feature if one.coordinate is None else f"{one.feature}[{one.coordinate}]"
    return name, fixed(one.psi, 3), fixed(one.by_chance, 3), fixed(one.js, 3), moved or NONE
