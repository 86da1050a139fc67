"""Is the shared model better than one model a task? A paired bootstrap over users says how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from onehull.evaluate.measures import Pair, TaskRows, pair_of
from onehull.evaluate.report import Comparison, Difference, Verdict
from onehull.metrics import relative_gain

Floats = NDArray[np.float64]
Points = Mapping[str, tuple[float | None, float | None]]
"""Task → its metric in this model and in the single-task model."""

_INTERVAL = (2.5, 97.5)
_WORK = 150_000_000
"""Rows times tasks times resamples: a few seconds."""
_FEWEST, _MOST = 200, 1000


def compare(
    tasks: Mapping[str, TaskRows], users: Floats | None, *, resamples: int | None = None, seed: int = 0
) -> Comparison:
    """Differences of AUC (binary), RMSE (regression) and log loss (multi-class), with 95 % percentile intervals.

    Users are drawn with replacement, each with all their rows, because rows of one user are not independent; a row
    without a user stands for itself. Both models and all tasks see the same draws.

    Args:
        tasks: name → labels and predictions.
        users: number of each row's user ``(B,)``, NaN where unknown; None draws rows.
        resamples: how many draws. Default: 200 to 1,000, fewer for more rows.
        seed: of the draws.
    """
    pairs = {name: pair_of(rows) for name, rows in tasks.items()}
    size = max((len(rows.labels) for rows in tasks.values()), default=0)
    count = resamples or int(np.clip(_WORK // max(1, size * len(tasks)), _FEWEST, _MOST))
    draws = {name: np.full((count, 2), np.nan) for name in pairs}
    group_B = _groups(users, size)
    for r, weights in enumerate(_draws(group_B, count, seed)):
        for name, pair in pairs.items():
            draws[name][r] = [_or_nan(pair.measure(weights)), _or_nan(pair.baseline(weights))]
    ones = np.ones(size)
    points = {name: (pair.measure(ones), pair.baseline(ones)) for name, pair in pairs.items()}
    low, high = _interval(_gains_of_draws(pairs, points, draws))
    return Comparison(
        tasks={name: _difference(pairs[name], points[name], draws[name]) for name in pairs},
        delta_m=_gain(pairs, points),
        delta_m_low=low,
        delta_m_high=high,
        delta_m_lift=_gain(pairs, points, lift=True),
        resamples=count,
        resampled="row" if users is None else "user",
    )


def _groups(users: Floats | None, rows: int) -> NDArray[np.int64]:
    """What is drawn together ``(B,)``: the rows of a user; a row without a user alone."""
    if users is None:
        return np.arange(rows)
    unknown = np.isnan(users)
    alone = np.nanmax(users, initial=0) + 1 + np.arange(rows)
    return np.unique(np.where(unknown, alone, users), return_inverse=True)[1]


def _draws(group_B: NDArray[np.int64], count: int, seed: int) -> list[Floats] | map[Floats]:
    """Row weights of each resample: how often the row's group was drawn."""
    random = np.random.default_rng(seed)
    groups = int(group_B.max()) + 1 if len(group_B) else 0

    def draw(_: int) -> Floats:
        times = np.bincount(random.integers(0, groups, groups), minlength=groups)
        return times[group_B].astype(np.float64)

    return map(draw, range(count)) if groups else []


def _difference(pair: Pair, point: tuple[float | None, float | None], draws: Floats) -> Difference:
    value, baseline = point
    low, high = _interval(draws[:, 0] - draws[:, 1])
    verdict = _verdict(low, high, lower_is_better=pair.lower_is_better)
    return Difference(
        metric=pair.metric,
        lower_is_better=pair.lower_is_better,
        value=value,
        baseline=baseline,
        difference=None if value is None or baseline is None else value - baseline,
        low=low,
        high=high,
        verdict=verdict,
        negative_transfer=verdict == "worse",
    )


def _interval(values: Floats) -> tuple[float | None, float | None]:
    """The 95 % percentile interval; none where most resamples have no value."""
    defined = values[~np.isnan(values)]
    if 2 * len(defined) < len(values) or not len(defined):
        return None, None
    low, high = np.percentile(defined, _INTERVAL)
    return float(low), float(high)


def _verdict(low: float | None, high: float | None, *, lower_is_better: bool) -> Verdict:
    if low is None or high is None:
        return "undefined"
    if lower_is_better:
        low, high = -high, -low
    return "better" if low > 0 else "worse" if high < 0 else "no difference shown"


def _gain(pairs: Mapping[str, Pair], points: Points, *, lift: bool = False) -> float | None:
    """Δm over the tasks that have both values."""
    values, baselines, lower = [], [], []
    for name, (value, baseline) in points.items():
        if value is None or baseline is None:
            continue
        chance = 0.5 if lift and pairs[name].metric == "auc" else 0.0
        values.append(value - chance)
        baselines.append(baseline - chance)
        lower.append(pairs[name].lower_is_better)
    return relative_gain(values, baselines, lower)


def _gains_of_draws(pairs: Mapping[str, Pair], points: Points, draws: Mapping[str, Floats]) -> Floats:
    """Δm of each resample, over the same tasks as Δm itself; NaN where one of them has no value."""
    defined = {name: draws[name] for name, values in points.items() if None not in values}
    gains = [
        _gain(pairs, {name: (float(drawn[0]), float(drawn[1])) for name, drawn in zip(defined, row, strict=True)})
        for row in zip(*defined.values(), strict=True)
    ]
    return np.array([_or_nan(gain) for gain in gains])


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
