"""The plots of the data report, one function each, painted on Matplotlib axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from onehull.evaluate.numerals import minus
from onehull.evaluate.plots import Paint
from onehull.evaluate.svg import FIRST, GRID, MUTED, SECOND, THIRD
from onehull.monitor.report import Delay, Period

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CERTAIN = 1.96
_COLOURS, _STYLES = (FIRST, SECOND, THIRD), ("-", "--", ":")
_MOST_LINES = 6
"""More tasks than that are told apart in the table only."""
_TICKS = 5
_DECADES = 10_000
"""The axis of delays begins at that part of the window."""
_MOMENTS = {
    0.1: "0.1 s",
    1: "1 s",
    10: "10 s",
    60: "1 min",
    600: "10 min",
    3600: "1 h",
    21_600: "6 h",
    86_400: "1 d",
    604_800: "1 w",
}


def rows(periods: Sequence[Period]) -> Paint:
    """Rows of each period."""

    def paint(axes: Axes) -> None:
        axes.bar(range(len(periods)), [period.rows for period in periods], color=FIRST, width=0.8)
        axes.set(ylabel="Rows", ylim=(0, None))
        _dates(axes, periods)
        _counts(axes)

    return paint


def missing(periods: Sequence[Period], tasks: Sequence[str]) -> Paint:
    """Share of rows without a label, a line a task."""

    def paint(axes: Axes) -> None:
        for number, task in enumerate(tasks[:_MOST_LINES]):
            shares = [100 * (1 - period.tasks[task].known / period.rows) for period in periods]
            colour, style = _COLOURS[number % 3], _STYLES[number // 3]
            axes.plot(range(len(periods)), shares, color=colour, linestyle=style, label=_short(task), clip_on=False)
        axes.set(ylabel="Rows without a label, %", ylim=(0, 100))
        _dates(axes, periods)
        # A line at the top and one at the bottom leave room in the middle; above the axes there always is some.
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, columnspacing=1.0)

    return paint


def rate(periods: Sequence[Period], task: str, *, binary: bool) -> Paint:
    """Mean label of each period with its 95 % interval."""

    def paint(axes: Axes) -> None:
        labels = [period.tasks[task] for period in periods]
        scale = 100 if binary else 1
        means = [math.nan if one.mean is None else scale * one.mean for one in labels]
        half = [scale * _CERTAIN * (one.deviation or 0) / math.sqrt(max(1, one.known)) for one in labels]
        axes.errorbar(range(len(periods)), means, half, color=FIRST, marker="o", markersize=3.5, elinewidth=1)
        axes.set(ylabel="Positive, %" if binary else "Mean label", ylim=(min(0.0, *_finite(means)), None))
        _dates(axes, periods)
        _counts(axes)

    return paint


def delay(found: Delay) -> Paint:
    """Share of the feedback that has come, along the window; delays of seconds and of hours need a logarithmic axis."""

    def paint(axes: Axes) -> None:
        steps = len(found.seconds) - 1
        inside = 100 * found.events / (found.events + found.after)
        start = max(found.window_s / _DECADES, 0.1)
        # What comes at once stands at the left edge.
        delays = [*(max(second, start) for second in found.seconds), found.window_s]
        shares = [*(inside * place / steps for place in range(steps + 1)), inside]
        axes.set_xscale("log")
        axes.fill_between(delays, shares, color=FIRST, alpha=0.08, linewidth=0)
        axes.plot(delays, shares, color=FIRST, clip_on=False)
        if found.after:
            axes.axhline(100, color=MUTED, linewidth=1, linestyle=(0, (1, 3)))
        ticks = {second: name for second, name in _MOMENTS.items() if start <= second <= found.window_s}
        axes.minorticks_off()
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set(xlim=(start, found.window_s), ylim=(0, 103), ylabel="Feedback that has come, %")

    return paint


def left_behind(names: Sequence[str], counts: Sequence[int]) -> Paint:
    """Where lines went that gave no sample, on a logarithmic axis: one line in a million is worth a look, too."""

    def paint(axes: Axes) -> None:
        places = range(len(names))
        axes.barh(places, counts, color=SECOND, height=0.62)
        axes.set(xscale="log", xlim=(0.8, 3 * max(counts)), ylim=(len(names) - 0.5, -0.5), xlabel="Lines")
        axes.set_yticks(list(places), [_short(name, 30) for name in names])
        for place, count in zip(places, counts, strict=True):
            axes.text(count * 1.15, place, f"{count:,}", va="center", fontsize=8)
        axes.minorticks_off()
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_color(GRID)

    return paint


def _dates(axes: Axes, periods: Sequence[Period]) -> None:
    """As many names of periods as fit; the year stands in the table."""
    every = max(1, math.ceil(len(periods) / _TICKS))
    places = list(range(0, len(periods), every))
    names = [periods[place].name for place in places]
    axes.set_xticks(places, [name[5:] if name[:4].isdigit() else name for name in names])
    axes.set_xlim(-0.6, len(periods) - 0.4)
    axes.grid(visible=False, axis="x")


def _counts(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: minus(f"{value:,.10g}")))


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)] or [0.0]


def _short(name: str, length: int = 18) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
