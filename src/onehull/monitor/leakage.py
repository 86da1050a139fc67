"""The guard: features that are a label, a function of one, missing for one class, or newer than their impression.

Measured for each feature alone. What only several features tell together, or a feature that tells a few rows for sure
and says nothing of the others, is not found; `docs/explanation/leakage.md` says what else is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from onehull.errors import DataError
from onehull.monitor.association import FOLDS
from onehull.monitor.findings import LIMITS, FeatureScore, Finding, LeakReport, Sign, level_of
from onehull.monitor.newer import newer_findings
from onehull.monitor.sample import training_rows
from onehull.monitor.scores import Target, feature_views, score, strongest, targets
from onehull.spec import Spec
from onehull.spec.leakage import Leakage
from onehull.spec.samples import feature_column

_FEWEST_ROWS = 30
"""Of the rarer class: below, a figure says more about chance than about the feature."""


def guard(spec: Spec, samples: Path, data_dir: Path | None = None) -> LeakReport:
    """Looks for leaks in a samples table.

    Args:
        spec: its sections ``leakage``, ``features``, ``tasks`` and ``data``.
        samples: what assembly wrote (`onehull.spec.samples`).
        data_dir: directory of the input; with it, attribute tables that have a history are looked at, too.

    Returns:
        Figures of every feature and task on at most ``leakage.rows`` training rows, and those beyond a limit.
    """
    settings = spec.leakage
    rows, total = training_rows(samples, settings.rows, settings.seed)
    goals = [target for name, task in spec.tasks.items() for target in targets(name, task, rows, _FEWEST_ROWS)]
    scores = tuple(_scores(spec, rows, goals))
    newer, notes = newer_findings(spec, rows, data_dir)
    found = [finding for one in scores for finding in _findings(one, settings)]
    silent = [name for name in spec.tasks if name not in {target.task for target in goals}]
    notes += [
        f"task {name}: fewer than {_FEWEST_ROWS} rows of a class, so that nothing was measured" for name in silent
    ]
    return LeakReport(
        rows=len(rows), training_rows=total, scores=scores, findings=tuple(found + newer), notes=tuple(notes)
    )


def refuse(report: LeakReport, source: str) -> None:
    """Stops where there is a leak.

    Args:
        report: what `guard` found.
        source: the spec's file.

    Raises:
        DataError: with every leak: the feature, the rule, the figure and the remedy.
    """
    if report.leaks:
        raise DataError("\n".join(f"{source}: {finding.fault()}" for finding in report.leaks))


def _scores(spec: Spec, rows: pl.DataFrame, goals: list[Target]) -> Iterator[FeatureScore]:
    """Every feature with every task; of several targets or coordinates the strongest."""
    # Folds are drawn once: the same rows are left out for every feature.
    fold_N = np.random.default_rng(spec.leakage.seed).integers(FOLDS, size=len(rows))
    ids = {spec.data.user, spec.data.item} - {None}
    for name, feature in spec.features.items():
        views = list(feature_views(feature, rows[feature_column(name)]))
        for task in dict.fromkeys(target.task for target in goals):
            asked = [target for target in goals if target.task == task]
            figures = strongest([score(view, target, fold_N, _FEWEST_ROWS) for target in asked for view in views])
            known = int(asked[0].known_N.sum())
            entity_id = (feature.column or name) in ids
            yield FeatureScore(feature=name, task=task, rows=known, entity_id=entity_id, **figures)


def _findings(one: FeatureScore, settings: Leakage) -> Iterator[Finding]:
    """At most one finding of what the values tell, and one of what their absence tells."""
    if one.entity_id:
        return
    rows = f"for task {one.task} on {one.rows:,} rows"
    told = [
        _beyond(one, settings, "auc", one.auc, f"AUC {one.auc or 0:.4f} {rows}"),
        _beyond(one, settings, "correlation", one.correlation, f"rank correlation {one.correlation or 0:.4f} {rows}"),
        _beyond(
            one, settings, "information", one.information, f"{one.information or 0:.1%} of the label's entropy {rows}"
        ),
    ]
    found = [finding for finding in told if finding is not None]
    yield from sorted(found, key=lambda finding: finding.level != "leak")[:1]
    low, high = one.missing_low or 0.0, one.missing_high or 0.0
    text = f"missing in {high:.1%} of a class of task {one.task}, else in {low:.1%}"
    gap = _beyond(one, settings, "missing", high - low, text)
    if gap is not None:
        yield gap


def _beyond(one: FeatureScore, settings: Leakage, sign: Sign, figure: float | None, text: str) -> Finding | None:
    """What a figure means beside its two limits; nothing below both."""
    limit: float = getattr(settings, LIMITS[sign])
    suspicious: float = getattr(settings, f"suspicious_{LIMITS[sign]}")
    if figure is None or figure < min(suspicious, limit):
        return None
    level = level_of(one.feature, settings, leak=figure >= limit)
    return Finding(level=level, sign=sign, feature=one.feature, task=one.task, figure=figure, limit=limit, text=text)
