"""What balancing costs: one training step with each method, as a multiple of the plain step in the same run.

Plain and balanced steps take turns, so that a machine that slows down slows both; a figure is the median of the pairs'
ratios. Simulated data, see `benchmarks.feed_model`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.progress import track

from benchmarks.feed_model import feed_batch, feed_model
from benchmarks.harness import finish, parser, place
from onehull.balance import BALANCERS, get_balancer

ROWS = 10_000
"""Rows of each of the 26 tables."""
PAIRS = {"fast": 21, "full": 60}
COSTLY = ("cagrad", "mgda", "metabalance", "nash_mtl", "pcgrad", "upgrad")
"""PCGrad, and the methods with the costliest solutions: what `fast` measures for eight tasks and at the parameters."""
ROOT = Path(__file__).parents[1]
NAMES = {
    "losses_k3": "losses only, 3 tasks",
    "representation_k3": "representation, 3 tasks",
    "representation_k8": "representation, 8 tasks",
    "sampled_k3": "sampled, 3 tasks",
    "exact_k3": "parameters, 3 tasks",
    "exact_with_tables_k3": "parameters with tables, 3 tasks",
}
"""What the figures are called in tables."""


@dataclass(frozen=True)
class Case:
    """One method at one level, for a number of tasks."""

    figure: str
    tasks: int
    method: str
    level: str | None
    tables: bool = False


class Trained:
    """A compiled model that takes one step at a time on the same batch.

    Args:
        tasks: number of tasks.
        method: name of a balancer, or None for the plain step.
        level: where gradients are compared; None for the default.
        tables: whether embedding tables take part in the comparison.
    """

    def __init__(self, tasks: int, method: str | None, level: str | None = None, *, tables: bool = False) -> None:
        model = feed_model(tasks, ROWS)
        loss = dict.fromkeys(model.task_names, "binary_crossentropy")
        model.compile(
            keras.optimizers.Adam(), loss=loss, balancer=method, level=level, tables=tables, jit_compile=False
        )
        self.traces = 0
        take: Callable[[Any], dict[str, Any]] = model.train_step

        def counted(data: Any) -> dict[str, Any]:
            self.traces += 1
            return take(data)

        model.train_step = counted  # type: ignore[method-assign]  # counts how often it is traced
        model.make_train_function()
        self._step = model.train_function
        self._batches = iter(tf.data.Dataset.from_tensors(feed_batch(tasks, ROWS)).repeat())

    def seconds(self) -> float:
        """Takes one step; how long it took."""
        start = time.perf_counter()
        self._step(self._batches)
        return time.perf_counter() - start


def cases(profile: str) -> list[Case]:
    """Every method at every level that makes a difference to it; what a solution costs does not depend on the level."""
    on_gradients = [kind for kind in sorted(BALANCERS) if needs(kind) == "gram"]
    movable = [kind for kind in on_gradients if not is_grouped(kind)]
    some = [kind for kind in on_gradients if profile == "full" or kind in COSTLY]
    return [
        *(Case("losses_k3", 3, kind, None) for kind in sorted(BALANCERS) if needs(kind) == "losses"),
        *(Case("representation_k3", 3, kind, None) for kind in movable),
        *(Case("representation_k8", 8, kind, None) for kind in some if kind in movable),
        *(Case("sampled_k3", 3, kind, "sampled") for kind in some if kind in movable),
        *(Case("exact_k3", 3, kind, "parameters") for kind in some),
        *(Case("exact_with_tables_k3", 3, kind, "parameters", tables=True) for kind in ("pcgrad",)),
    ]


def needs(kind: str) -> str:
    """The statistic that a method works from."""
    balancer = get_balancer(kind)
    assert balancer is not None
    return balancer.needs


def is_grouped(kind: str) -> bool:
    """Whether a method weighs groups of variables apart, which it can only do at the parameters."""
    balancer = get_balancer(kind)
    assert balancer is not None
    return balancer.grouping(["a", "b"]) is not None


def ratios(case: Case, plain: Trained, pairs: int) -> tuple[list[float], int]:
    """Ratio of each pair of steps, and how often the method's step was traced."""
    balanced = Trained(case.tasks, case.method, case.level, tables=case.tables)
    for _ in range(3):  # tracing, compiling, and the first touch of the slots
        balanced.seconds()
        plain.seconds()
    return [balanced.seconds() / plain.seconds() for _ in range(pairs)], balanced.traces


def markdown(result: Mapping[str, Any]) -> str:
    """A row for each method, a column for each level."""
    figures = result["methods"]
    lines = [f"| method | {' | '.join(NAMES.values())} |", f"|---|{'---:|' * len(NAMES)}"]
    for method in sorted({kind for methods in figures.values() for kind in methods}):
        cells = [f"{figures[name][method]:.2f}" if method in figures[name] else "" for name in NAMES]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Times every case."""
    options = parser(__doc__)
    options.add_argument("--method", help="time this method only")
    options.add_argument("--docs", action="store_true", help="also put the table into the documentation")
    arguments = options.parse_args()
    chosen = [case for case in cases(arguments.profile) if arguments.method in (None, case.method)]
    plain: dict[int, Trained] = {}
    figures: dict[str, dict[str, float]] = {}
    spread: dict[tuple[str, str], tuple[float, float]] = {}
    traces = 1
    for case in track(chosen, "steps", transient=True):
        if case.tasks not in plain:
            plain.clear()
            plain[case.tasks] = Trained(case.tasks, None)
        found, traced = ratios(case, plain[case.tasks], PAIRS[arguments.profile])
        traces = max(traces, traced)
        quarters = statistics.quantiles(found, n=4)
        figures.setdefault(case.figure, {})[case.method] = round(quarters[1], 3)
        spread[case.figure, case.method] = quarters[0], quarters[2]
        keras.backend.clear_session(free_memory=True)
    plain_ms = {
        f"k{tasks}": round(1e3 * statistics.median(model.seconds() for _ in range(9)), 1)
        for tasks, model in plain.items()
    }
    rows = [
        [NAMES[figure], method, f"{ratio:.2f}", "{:.2f} – {:.2f}".format(*spread[figure, method])]
        for figure, methods in figures.items()
        for method, ratio in sorted(methods.items(), key=lambda item: item[1])
    ]
    worst = {figure: max(methods.values()) for figure, methods in figures.items()}
    result = {"profile": arguments.profile, **worst, "traces": traces, "plain_step_ms": plain_ms, "methods": figures}
    if arguments.docs:
        place(ROOT / "docs" / "explanation" / "choosing.md", "balancer_cost", markdown(result))
    columns = ["level", "method", "× plain step", "quartiles"]
    finish("One training step, as a multiple of the plain one (simulated data)", columns, rows, result, arguments.save)


if __name__ == "__main__":
    main()
