"""A bar for a step that takes long; where there is no terminal, nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Bar:
    """What a step says of its own progress."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._name = name
        self._row = progress.add_task(name, total=None)

    def begin(self, what: str, total: float | None = None) -> None:
        """Names what is being done now; without a total the bar only shows that something is."""
        self._progress.reset(self._row, total=total, description=f"{self._name}: {what}")

    def advance(self, amount: float) -> None:
        """That much more is done."""
        self._progress.advance(self._row, amount)

    def share(self, what: str, done: float) -> None:
        """A share of what is being done is done."""
        self._progress.update(self._row, description=f"{self._name}: {what}", total=1.0, completed=done)


@contextmanager
def bar(console: Console, name: str) -> Iterator[Bar]:
    """Shows a bar while a step works, and removes it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress, name)
