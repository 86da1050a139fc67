"""TensorBoard curves: one point an epoch.

Shapes: ``T`` tasks.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
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

    def write_curves(self, epoch: int, values: Mapping[str, float]) -> None:
        """Adds a point to curves that are named by their tags."""
        with self._writer.as_default(step=epoch):
            for tag, value in values.items():
                tf.summary.scalar(tag, value)
        self._writer.flush()

    def write_conflicts(self, epoch: int, tasks: Sequence[str], cosines: Sequence[Sequence[float | None]]) -> None:
        """Adds the conflict matrix of an epoch: a curve for each pair of tasks, and the matrix as a picture."""
        with self._writer.as_default(step=epoch):
            for (row, first), (column, second) in combinations(enumerate(tasks), 2):
                cosine = cosines[row][column]
                if cosine is not None:
                    tf.summary.scalar(f"cosine/{first}, {second}", cosine)
            tf.summary.image("conflicts", tf.image.decode_png(_picture(tasks, cosines), channels=3)[tf.newaxis])
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


def _tag(name: str) -> str:
    """``loss/click`` for ``click_loss``, so that the curves of one kind stand together."""
    part = "validation_" if name.startswith("val_") else ""
    task, _, kind = name.removeprefix("val_").rpartition("_")
    return f"{part}{kind}/{task}" if task else f"{part}{kind}"


def _picture(tasks: Sequence[str], cosines: Sequence[Sequence[float | None]]) -> bytes:
    """The matrix as a PNG file: red for conflict, blue for agreement."""
    from matplotlib.figure import Figure

    size = 1.6 + 0.7 * len(tasks)
    figure = Figure(figsize=(size, size), dpi=100, layout="constrained")
    axes = figure.subplots()
    values_TT = np.array(cosines, dtype=float)
    axes.imshow(values_TT, cmap="RdBu", vmin=-1, vmax=1)
    axes.set_xticks(range(len(tasks)), tasks, rotation=45, ha="right")
    axes.set_yticks(range(len(tasks)), tasks)
    for row, column in np.argwhere(np.isfinite(values_TT)):
        axes.text(column, row, f"{values_TT[row, column]:.2f}", ha="center", va="center", fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
