"""Layer names: readable, and unique within a model."""

from __future__ import annotations

from collections.abc import Iterable


class LayerNames:
    """Gives out names that no input, task or other layer has.

    Args:
        taken: names of inputs and tasks.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def free(self, name: str) -> str:
        """The name itself, or with underscores where a feature or a task happens to have it."""
        while name in self._taken:
            name = f"{name}_"
        self._taken.add(name)
        return name
