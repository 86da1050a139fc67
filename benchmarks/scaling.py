"""How the time of a step grows: with the rows of the tables, with the tasks, and with the workers.

The model of `benchmarks.feed_model` in float32, trained by the compiled steps of ``onehull train``, each size in a
process of its own (`benchmarks.peers.onehull_worker`); sizes take turns, and a figure is the median over the turns. Two
workers on one machine have a core each, and are compared with one worker that has one core, on the same global batch.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import finish, parser, place
from benchmarks.peers.contestants import Entry, take_turns
from benchmarks.peers.task import BATCH, FEATURES, draw
from benchmarks.peers.worker import Worker
from onehull.pipeline.launch import free_ports

ROWS = (100_000, 1_000_000, 10_000_000, 30_000_000)
"""Rows of all tables together."""
TASKS = (1, 2, 4, 8, 16)
WORKERS = (1, 2)
SMALL = 260_000
"""Rows of all tables together, where tasks and workers are varied."""
BATCHES, STEPS = 32, 16
TURNS = {"fast": 5, "full": 21}
ROOT = Path(__file__).parents[1]
PLOT = ROOT / "docs" / "images" / "scaling.png"


def by_rows(folder: Path, turns: int) -> dict[int, float]:
    """Milliseconds of a step by rows of all tables, three tasks."""
    cases = {rows: prepare(folder / f"rows_{rows}", rows, 3) for rows in ROWS}
    return in_turn(cases, folder, turns)


def by_tasks(folder: Path, turns: int) -> dict[int, float]:
    """Milliseconds of a step by the number of tasks."""
    cases = {tasks: prepare(folder / f"tasks_{tasks}", SMALL, tasks) for tasks in TASKS}
    return in_turn(cases, folder, turns)


def by_workers(folder: Path, turns: int) -> dict[int, float]:
    """Milliseconds of a step by the number of workers, each with one core, three tasks, one global batch."""
    first = prepare(folder / "workers", SMALL, 3) | {"precision": "float32", "threads": 1}
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < max(WORKERS):
        raise OSError(f"This machine must have {max(WORKERS)} cores, one for each worker. It has {len(cores)}.")
    with ExitStack() as stack:
        teams = {count: team(stack, first, cores[:count], folder) for count in WORKERS}
        for workers in teams.values():
            together(workers, STEPS)
        found: dict[int, list[float]] = {count: [] for count in WORKERS}
        for _ in range(turns):
            for count, workers in teams.items():
                found[count].append(1e3 * together(workers, STEPS) / STEPS)
    return {count: round(statistics.median(values), 2) for count, values in found.items()}


def team(stack: ExitStack, first: Mapping[str, Any], cores: Sequence[int], folder: Path) -> list[Worker]:
    """Workers of one training, one on each core, which have built their models."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(len(cores))]
    workers = []
    for index, core in enumerate(cores):
        own = {**first, "core": core, "cluster": addresses, "index": index}
        log = folder / f"worker_{index}_of_{len(cores)}.log"
        workers.append(stack.enter_context(Entry("worker", "onehull").start(own, log)))
    for worker in workers:
        worker.hear()
    return workers


def together(workers: Sequence[Worker], steps: int) -> float:
    """Seconds of some steps that all workers take at once: those of the slowest."""
    for worker in workers:
        worker.tell({"steps": steps})
    return float(max(worker.hear()["seconds"] for worker in workers))


def prepare(folder: Path, rows: int, tasks: int) -> dict[str, Any]:
    """Draws data for a worker; returns its first line."""
    folder.mkdir()
    each = -(-rows // FEATURES)
    draw(each, BATCHES, tasks).save(folder)
    return {"data": str(folder), "rows": each, "threads": os.cpu_count()}


def in_turn(cases: Mapping[int, Mapping[str, Any]], folder: Path, turns: int) -> dict[int, float]:
    """Median milliseconds of a step of each case."""
    entries = [Entry(str(size), "onehull", options={**first, "precision": "float32"}) for size, first in cases.items()]
    found = take_turns(entries, {}, folder, turns=turns, steps={entry.name: STEPS for entry in entries})
    return {size: round(found[str(size)].median_ms, 2) for size in cases}


def exponent(times: Mapping[int, float]) -> float:
    """Slope of the logarithm of the time over that of the size, by least squares: 0 is flat, 1 is linear."""
    x = [math.log(size) for size in times]
    y = [math.log(time) for time in times.values()]
    return statistics.linear_regression(x, y).slope


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Milliseconds of a step by rows, by tasks beside what linear growth would be, and by workers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.2), dpi=120, layout="constrained")
    rows_axes, tasks_axes, workers_axes = figure.subplots(1, 3, width_ratios=[3, 3, 1.5])
    rows = {int(size): time for size, time in result["rows_ms"].items()}
    rows_axes.plot(list(rows), list(rows.values()), marker="o")
    rows_axes.set(xscale="log", xlabel="rows of all tables", ylabel="ms a step", title="Vocabulary")
    tasks = {int(size): time for size, time in result["tasks_ms"].items()}
    tasks_axes.plot(list(tasks), list(tasks.values()), marker="o", label="measured")
    linear = [size * tasks[min(tasks)] for size in tasks]
    tasks_axes.plot(list(tasks), linear, linestyle=":", color="gray", label="linear from 1 task")
    tasks_axes.set(xlabel="tasks", ylabel="ms a step", title="Tasks", xticks=list(tasks))
    tasks_axes.legend(frameon=False)
    workers = {int(size): time for size, time in result["workers_ms"].items()}
    workers_axes.bar([str(size) for size in workers], list(workers.values()), width=0.5)
    workers_axes.set(xlabel="workers, a core each", ylabel="ms a step", title="Workers")
    for axes, values in ((rows_axes, rows), (tasks_axes, tasks), (workers_axes, workers)):
        axes.set_ylim(0, 2 * max(values.values()))
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def markdown(result: Mapping[str, Any]) -> str:
    """Three tables in one: what was varied, and the time of a step."""
    lines = ["| varied | size | ms a step |", "|---|---:|---:|"]
    for name in ("rows", "tasks", "workers"):
        lines += [f"| {name} | {int(size):,} | {time:.1f} |" for size, time in result[f"{name}_ms"].items()]
    return "\n".join(lines)


def main() -> None:
    """Measures all three."""
    options = parser(__doc__)
    options.add_argument("--docs", action="store_true", help="also put table and plot into the documentation")
    arguments = options.parse_args()
    turns = TURNS[arguments.profile]
    with TemporaryDirectory() as name:
        folder = Path(name)
        rows, tasks, workers = by_rows(folder, turns), by_tasks(folder, turns), by_workers(folder, turns)
    result = {
        "profile": arguments.profile,
        "rows_exponent": round(exponent(rows), 3),
        "tasks_exponent": round(exponent(tasks), 3),
        "largest_vs_smallest_tables": round(rows[max(rows)] / rows[min(rows)], 2),
        "tasks_16_vs_1": round(tasks[16] / tasks[1], 2),
        "workers_2_vs_1": round(workers[1] / workers[2], 2),
        "rows_ms": rows,
        "tasks_ms": tasks,
        "workers_ms": workers,
    }
    if arguments.docs:
        place(ROOT / "docs" / "explanation" / "speed.md", "scaling", markdown(result))
        plot(result, PLOT)
    varied = {"rows": rows, "tasks": tasks, "workers": workers}
    table = [[name, f"{size:,}", f"{ms:.1f}"] for name, times in varied.items() for size, ms in times.items()]
    finish(f"A step of {BATCH} rows (simulated data)", ["varied", "size", "ms"], table, result, arguments.save)


if __name__ == "__main__":
    main()
