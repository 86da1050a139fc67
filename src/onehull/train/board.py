"""TensorBoard curves: one point an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf


class Board:
    """Writes losses, metrics and task weights under a directory.

    Args:
        directory: of the event files; runs that continue add a file to it.
    """

    def __init__(self, directory: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(directory))

    def write(self, epoch: int, measures: Mapping[str, float | None]) -> None:
        """Adds the measures of an epoch, counted from 1; those that are not defined are left out."""
        with self._writer.as_default(step=epoch):
            for name, value in measures.items():
                if value is not None:
                    tf.summary.scalar(_tag(name), value)
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


def _tag(name: str) -> str:
    """``loss/click`` for ``click_loss``, so that the curves of one kind stand together."""
    part = "validation_" if name.startswith("val_") else ""
    task, _, kind = name.removeprefix("val_").rpartition("_")
    return f"{part}{kind}/{task}" if task else f"{part}{kind}"
