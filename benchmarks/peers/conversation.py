"""How the driver and a worker talk: one JSON object a line.

The first line to the worker says what to build: ``{"data": FOLDER, "rows": 10000, "threads": 2, ...}``; the worker
builds, and answers ``{"versions": {...}, "settings": "..."}``. From then on ``{"steps": 20}`` is answered with
``{"seconds": 1.2, "loss": 0.61, "peak_bytes": 1234}``. Between two lines a worker waits for its input and does nothing.
It ends when its input ends. Answers go through a pipe of their own, whose number is the worker's only argument, because
frameworks print as they please.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers.task import Task


@dataclass(frozen=True)
class Contestant:
    """A model ready to train.

    Args:
        run: takes a number of steps; returns the seconds that they took and the loss of the last.
        settings: what was chosen for speed, in words.
        packages: whose versions a figure needs.
        close: what remains to be done when all is measured.
    """

    run: Callable[[int], tuple[float, float]]
    settings: str
    packages: tuple[str, ...]
    close: Callable[[], None] = lambda: None


def answer(build: Callable[[Task, Mapping[str, Any]], Contestant]) -> None:
    """Serves one driver until its input ends.

    Args:
        build: makes the contestant from the task and the whole first line.
    """
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as driver:
        first = json.loads(sys.stdin.readline())
        contestant = build(Task.load(Path(first["data"]), first["rows"]), first)
        versions = {name: version(name) for name in contestant.packages}
        say(driver, versions=versions, settings=contestant.settings)
        for line in sys.stdin:
            seconds, loss = contestant.run(json.loads(line)["steps"])
            say(driver, seconds=seconds, loss=loss, peak_bytes=peak_bytes())
        contestant.close()


def say(driver: Any, **words: Any) -> None:
    """Sends one line."""
    print(json.dumps(words), file=driver, flush=True)


def peak_bytes() -> int:
    """The largest resident memory that this process has had, as the kernel counts it (VmHWM)."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status must have a line VmHWM: this benchmark measures memory on Linux only.")
