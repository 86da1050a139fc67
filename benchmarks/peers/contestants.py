"""Who takes part in `benchmarks.train_speed`, and how they take turns."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import python_of
from benchmarks.peers.worker import Worker


@dataclass(frozen=True)
class Entry:
    """A contestant.

    Args:
        name: in tables and results.
        worker: module in this package, without ``_worker``.
        environment: its requirement file, or None for the environment of this project.
        options: what its worker is told beside the data.
        tuned: with the best settings that we know for it, or as it comes.
    """

    name: str
    worker: str
    environment: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    tuned: bool = True

    def start(self, first: Mapping[str, Any], log: Path) -> Worker:
        """Starts its process, which says what it has to say into a log."""
        python = Path(sys.executable) if self.environment is None else python_of(self.environment)
        module = f"benchmarks.peers.{self.worker}_worker"
        return Worker(python, module, {**first, **self.options, "tuned": self.tuned}, log, keep_pages=self.tuned)


OURS = Entry("onehull", "onehull", options={"precision": "auto"})
OURS_FLOAT32 = Entry("onehull_float32", "onehull", options={"precision": "float32"})
PEERS = (
    Entry("keras_fit", "keras_fit", options={"policy": "float32"}),
    Entry("deepctr", "deepctr", "deepctr"),
    Entry("torch_rechub", "torch_rechub", "torch_rechub"),
)
AS_THEY_COME = tuple(replace(peer, name=f"{peer.name}_as_it_comes", tuned=False) for peer in PEERS)
"""The same with the settings that they have by themselves, and a C library that gives memory back."""
KERAS_BFLOAT16 = Entry("keras_fit_bfloat16", "keras_fit", options={"policy": "mixed_bfloat16"})
"""Shown beside the peers: what Keras alone gains from bfloat16."""


@dataclass
class Figures:
    """What was measured of a contestant.

    Args:
        step_ms: of each turn, the mean time of a step.
        peak_bytes: largest resident memory of its process.
        loss: of the last turn.
        versions: of its packages.
        settings: what it chose, in words.
    """

    step_ms: list[float]
    peak_bytes: int
    loss: float
    versions: dict[str, str]
    settings: str

    @property
    def median_ms(self) -> float:
        """Median over the turns."""
        return statistics.median(self.step_ms)

    @property
    def summary(self) -> dict[str, Any]:
        """For a result file."""
        return {
            "step_ms": round(self.median_ms, 2),
            "turns_ms": [round(value, 2) for value in self.step_ms],
            "peak_gb": round(self.peak_bytes / 1e9, 2),
            "loss": round(self.loss, 4),
            "settings": self.settings,
            "versions": self.versions,
        }


def take_turns(
    entries: Sequence[Entry], first: Mapping[str, Any], folder: Path, *, turns: int, steps: Mapping[str, int]
) -> dict[str, Figures]:
    """Starts all contestants, one after the other, and lets each train in its turn; never two at once.

    Args:
        entries: who takes part.
        first: the first line for all workers.
        folder: for their logs.
        turns: how often each has its turn, after a first one that is not counted.
        steps: how many steps a turn of each has.
    """
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        ready: dict[str, dict[str, Any]] = {}
        for entry in entries:
            workers[entry.name] = stack.enter_context(entry.start(first, folder / f"{entry.name}.log"))
            ready[entry.name] = workers[entry.name].hear()
            workers[entry.name].ask({"steps": steps[entry.name]})  # tracing, and the first touch of slots
        answers: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
        for turn in range(turns):
            order = list(workers) if turn % 2 == 0 else list(reversed(workers))
            for name in order:
                answers[name].append(workers[name].ask({"steps": steps[name]}))
        return {name: figures(ready[name], given, steps[name]) for name, given in answers.items()}


def figures(ready: Mapping[str, Any], answers: Sequence[Mapping[str, Any]], steps: int) -> Figures:
    """What a worker's answers say.

    Args:
        ready: its first answer.
        answers: one for each turn.
        steps: of a turn.
    """
    return Figures(
        [1e3 * answer["seconds"] / steps for answer in answers],
        max(answer["peak_bytes"] for answer in answers),
        answers[-1]["loss"],
        ready["versions"],
        ready["settings"],
    )
