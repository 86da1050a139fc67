"""The plots of the report, one function each, painted on Matplotlib axes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from onehull.evaluate.numerals import minus, significant
from onehull.evaluate.report import Bins, Comparison, Conflicts, Costs, Difference, GateUse, Roc
from onehull.evaluate.svg import FIRST, GRID, INK, MUTED, PAPER, SECOND, THIRD

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Paint = Callable[["Axes"], None]
_LOG_FROM = 0.1
"""Positive rates below this are drawn on logarithmic axes."""
_CERTAIN = 1.96
_LONGEST_LABEL = 18
_ROUNDS_TO_ONE = 0.995
_MOST_NUMBERS = 16
"""Beyond this many experts there is no room for a weight's digits."""
_DARK = 0.6
"""Weights above this are drawn so strongly that their text must be light."""


def roc(curve: Roc) -> Paint:
    """True against false positives, and the diagonal of chance."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (1, 3)))
        axes.fill_between(curve.false_positive_rate, curve.true_positive_rate, color=FIRST, alpha=0.08, linewidth=0)
        axes.plot(curve.false_positive_rate, curve.true_positive_rate, color=FIRST, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="False positive rate", ylabel="True positive rate")
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])

    return paint


def calibration(bins: Bins, *, probability: bool) -> Paint:
    """Mean label against mean prediction by decile, with 95 % intervals; rare events on logarithmic axes."""

    def paint(axes: Axes) -> None:
        seen = [value for value in (*bins.prediction, *bins.label) if value > 0]
        total = sum(bins.rows)
        mean = sum(label * n for label, n in zip(bins.label, bins.rows, strict=True)) / total
        logarithmic = probability and 0 < mean < _LOG_FROM and min(bins.prediction) > 0
        low = min(seen) / 1.6 if logarithmic else min(0.0, *bins.prediction, *bins.label)
        high = max(seen, default=1.0) * (1.6 if logarithmic else 1.06)
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (1, 3)))
        if logarithmic:
            axes.set(xscale="log", yscale="log")
            axes.minorticks_off()
        labels = [max(label, low) for label in bins.label]
        _errorbars(axes, bins, labels, low)
        axes.plot(bins.prediction, labels, color=FIRST, linewidth=1, alpha=0.5)
        for x, y, label in zip(bins.prediction, labels, bins.label, strict=True):
            # A bin without a positive has no place on a logarithmic axis: it stands hollow at its foot.
            hollow = logarithmic and label <= 0
            face = PAPER if hollow else FIRST
            axes.plot(x, y, "o", markersize=5.5, color=FIRST, markerfacecolor=face, clip_on=False, zorder=4)
        axes.set(xlim=(low, high), ylim=(low, high), xlabel="Mean prediction", ylabel="Mean label")
        _plain_ticks(axes, logarithmic=logarithmic)

    return paint


def _errorbars(axes: Axes, bins: Bins, labels: Sequence[float], floor: float) -> None:
    half = [_CERTAIN * d / math.sqrt(n) for d, n in zip(bins.deviation, bins.rows, strict=True)]
    below = [min(h, max(0.0, y - floor)) for h, y in zip(half, labels, strict=True)]
    axes.errorbar(bins.prediction, labels, [below, half], fmt="none", ecolor=FIRST, elinewidth=1.2, alpha=0.7)


def _plain_ticks(axes: Axes, *, logarithmic: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if logarithmic:
            # Two labels a decade where there is room for them.
            roomy = high / low < 60
            axis.set_major_locator(LogLocator(subs=(1, 3) if roomy else (1,), numticks=8))
        else:
            axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(FuncFormatter(lambda value, _: minus(f"{value:g}")))


def along(bins: Bins, xlabel: str) -> Paint:
    """Mean label and mean prediction along another quantity."""

    def paint(axes: Axes) -> None:
        place = range(len(bins.rows))
        half = [_CERTAIN * d / math.sqrt(n) for d, n in zip(bins.deviation, bins.rows, strict=True)]
        label = axes.errorbar(place, bins.label, half, color=FIRST, marker="o", markersize=5, elinewidth=1.2)
        (prediction,) = axes.plot(
            place, bins.prediction, color=SECOND, marker="s", markersize=3.5, linestyle="--", zorder=4
        )
        axes.set(xlabel=xlabel, ylim=(min(0.0, *bins.label, *bins.prediction), None))
        axes.set_xticks(list(place), [significant(p, 3) if i % 3 == 0 else "" for i, p in enumerate(bins.position)])
        axes.grid(visible=False, axis="x")
        axes.legend([label, prediction], ["Label", "Prediction"], loc="upper left")

    return paint


def losses(train: Sequence[float | None], validation: Sequence[float | None]) -> Paint:
    """Loss by epoch, with a mark on the lowest validation loss."""

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        for values, colour, style, name in (
            (train, FIRST, "-", "Training"),
            (validation, SECOND, "--", "Validation"),
        ):
            known = [(epoch, value) for epoch, value in enumerate(values, 1) if value is not None]
            if known:
                axes.plot(*zip(*known, strict=True), color=colour, linestyle=style, label=name)
                axes.plot(*known[-1], marker="o", markersize=3.5, color=colour, clip_on=False)
        validated = [(value, epoch) for epoch, value in enumerate(validation, 1) if value is not None]
        if validated:
            value, epoch = min(validated)
            axes.plot(epoch, value, "o", markersize=9, markerfacecolor="none", color=SECOND, markeredgewidth=1.4)
        axes.set(xlabel="Epoch", ylabel="Loss")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(visible=False, axis="x")
        axes.legend(loc="upper right")

    return paint


def forest(comparison: Comparison) -> Paint:
    """The relative difference of each task with its interval; to the right is better."""

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        shown = {task: d for task, d in comparison.tasks.items() if _relative(d) is not None}
        axes.axvline(0, color=MUTED, linewidth=1)
        for place, difference in enumerate(shown.values()):
            middle, low, high = _relative(difference) or (0.0, 0.0, 0.0)
            colour = {"better": THIRD, "worse": SECOND}.get(difference.verdict, MUTED)
            axes.plot([low, high], [place, place], color=colour, linewidth=2.4)
            axes.plot(middle, place, marker="D" if difference.negative_transfer else "o", markersize=7, color=colour)
        axes.set_yticks(range(len(shown)), [_short(task) for task in shown])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel="Relative gain, % (right is better)")
        reach = max(abs(value) for value in axes.get_xlim())
        axes.set_xlim(-reach, reach)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: minus(f"{value:+.3g}") if value else "0"))
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)

    return paint


def _short(name: str) -> str:
    """A name that leaves room for the plot beside it; the table has the whole of it."""
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"


def _relative(difference: Difference) -> tuple[float, float, float] | None:
    """Gain, and the ends of its interval, in per cent of the baseline; positive is better."""
    ends = (difference.difference, difference.low, difference.high)
    if difference.baseline is None or not difference.baseline or any(value is None for value in ends):
        return None
    sign = -1 if difference.lower_is_better else 1
    middle, low, high = (100 * sign * (value or 0.0) / abs(difference.baseline) for value in ends)
    return middle, min(low, high), max(low, high)


def parameters(costs: Costs) -> Paint:
    """Parameters of this model, shared and of one task, above independent models."""

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import EngFormatter, MaxNLocator

        own = costs.total - costs.shared
        axes.barh(0, costs.shared, color=FIRST, height=0.55, label="Shared")
        axes.barh(0, own, left=costs.shared, color=THIRD, height=0.55, label="Of one task")
        axes.barh(1, costs.independent, color=GRID, height=0.55)
        axes.set_yticks([0, 1], ["This model", f"{len(costs.by_task)} single models"])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set(ylim=(1.5, -0.9), xlabel="Parameters")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.legend(loc="upper left", ncols=2, borderaxespad=0)

    return paint


def gate_weights(gates: Sequence[GateUse]) -> Paint:
    """Mean weight of each expert in each gate of one level; an empty place is an expert that a gate does not read."""

    def paint(axes: Axes) -> None:
        from matplotlib.patches import Rectangle

        names = _by_readers(gates)
        size = min(8.5, 85 / len(names))
        for row, gate in enumerate(gates):
            for name, weight in zip(gate.experts, gate.mean_weights, strict=True):
                column = names.index(name)
                corner = (column - 0.47, row - 0.46)
                axes.add_patch(Rectangle(corner, 0.94, 0.92, facecolor=GRID, alpha=0.35, linewidth=0))
                axes.add_patch(Rectangle(corner, 0.94, 0.92, facecolor=FIRST, alpha=min(1.0, weight), linewidth=0))
                text = f"{weight:.2f}"[1:] if weight < _ROUNDS_TO_ONE else "1"
                colour = PAPER if weight > _DARK else INK
                if len(names) <= _MOST_NUMBERS:
                    axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(gates) - 0.5, -0.5))
        axes.set_xticks(range(len(names)), [_short(name) for name in names], rotation=45, ha="right")
        axes.set_yticks(range(len(gates)), [_short(gate.task) for gate in gates])
        axes.tick_params(axis="both", length=0, labelcolor=INK)
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)

    return paint


def _by_readers(gates: Sequence[GateUse]) -> list[str]:
    """Names of the experts; what most gates read, the shared ones, stands first."""
    readers = Counter(name for gate in gates for name in gate.experts)
    return sorted(readers, key=lambda name: -readers[name])


def cosines(conflicts: Conflicts) -> Paint:
    """Mean cosine of each pair of tasks; the stronger the colour, the further from 0."""

    def paint(axes: Axes) -> None:
        from matplotlib.patches import Rectangle

        tasks, matrix = conflicts.tasks, conflicts.mean()
        for row, values in enumerate(matrix):
            for column, cosine in enumerate(values):
                if row == column or cosine is None:
                    axes.add_patch(Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, facecolor=GRID, alpha=0.35))
                    continue
                strength = min(1.0, abs(cosine))
                colour = SECOND if cosine < 0 else FIRST
                axes.add_patch(Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, facecolor=colour, alpha=strength))
                text = PAPER if strength > _DARK else INK
                axes.text(column, row, minus(f"{cosine:.2f}"), ha="center", va="center", fontsize=8.5, color=text)
        axes.set(xlim=(-0.5, len(tasks) - 0.5), ylim=(len(tasks) - 0.5, -0.5))
        axes.set_xticks(range(len(tasks)), [_short(task) for task in tasks], rotation=45, ha="right")
        axes.set_yticks(range(len(tasks)), [_short(task) for task in tasks])
        axes.tick_params(axis="both", length=0, labelcolor=INK)
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)

    return paint


def cosines_by_epoch(conflicts: Conflicts) -> Paint:
    """Cosine of the pairs with the strongest conflict, epoch by epoch."""

    def paint(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        epochs = range(1, len(conflicts.by_epoch) + 1)
        place = {task: index for index, task in enumerate(conflicts.tasks)}
        axes.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (1, 3)))
        for (first, second, _), colour in zip(conflicts.pairs(), (SECOND, FIRST, THIRD), strict=False):
            values = [matrix[place[first]][place[second]] for matrix in conflicts.by_epoch]
            points = [math.nan if value is None else value for value in values]
            axes.plot(
                epochs, points, color=colour, marker="o", markersize=3, label=f"{_short(first)}, {_short(second)}"
            )
        axes.set(xlabel="Epoch", ylabel="Cosine")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best")

    return paint


def loss_curves(
    history: Sequence[Mapping[str, float | int | None]], task: str
) -> tuple[list[float | None], list[float | None]]:
    """Training and validation loss of a task by epoch, as far as the history has them."""
    train = [epoch.get(f"{task}_loss") for epoch in history]
    validation = [epoch.get(f"val_{task}_loss") for epoch in history]
    return train, validation


def has_intervals(comparison: Comparison) -> bool:
    """Whether there is anything for `forest` to show."""
    return any(_relative(difference) is not None for difference in comparison.tasks.values())
