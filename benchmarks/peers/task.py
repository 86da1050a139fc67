"""What every contestant trains: the arrays, as the driver saved them, and the sizes of the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FEATURES, NUMBERS, BATCH, ZIPF = 26, 13, 4096, 1.2
"""Categorical features, numbers, rows of a batch, exponent of the power law that ids follow."""
DIM = 16
"""Width of an embedding."""
BOTTOM = (256, 128)
"""Units of the shared layers."""
TOWER = 64
"""Units of a task's hidden layer; one unit follows."""
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Task:
    """Arrays in memory and the sizes that follow from them. N batches, B rows each, F features, D numbers, T tasks.

    Args:
        ids_NBF: int32, the row of each feature's table.
        numbers_NBD: float32.
        labels_NBT: float32, 0 or 1.
        rows: rows of each feature's embedding table.
    """

    ids_NBF: np.ndarray[Any, Any]
    numbers_NBD: np.ndarray[Any, Any]
    labels_NBT: np.ndarray[Any, Any]
    rows: int

    @classmethod
    def load(cls, folder: Path, rows: int) -> Task:
        """Reads what `save` wrote."""
        ids_NBF, numbers_NBD, labels_NBT = (np.load(folder / f"{name}.npy") for name in ("ids", "numbers", "labels"))
        return cls(ids_NBF, numbers_NBD, labels_NBT, rows)

    def save(self, folder: Path) -> None:
        """Writes the arrays into a folder that exists."""
        arrays = {"ids": self.ids_NBF, "numbers": self.numbers_NBD, "labels": self.labels_NBT}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)

    @property
    def features(self) -> list[str]:
        """Names of the categorical features."""
        return [f"id_{index}" for index in range(self.ids_NBF.shape[2])]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks."""
        return [f"task_{index}" for index in range(self.labels_NBT.shape[2])]

    @property
    def numbers(self) -> int:
        """How many numbers a row has."""
        return int(self.numbers_NBD.shape[2])


def draw(rows: int, batches: int, tasks: int, seed: int = 0) -> Task:
    """Simulated data: ids of a power law, numbers of a normal distribution, labels by chance.

    Args:
        rows: rows of each feature's table; a draw beyond the last is the last.
        batches: how many batches.
        tasks: how many binary tasks.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    ranks_NBF = np.minimum(generator.zipf(ZIPF, (batches, BATCH, FEATURES)), rows) - 1
    # By frequency, what is looked up most would lie side by side, as it does in no real table.
    places_FR = np.stack([generator.permutation(rows).astype(np.int32) for _ in range(FEATURES)])
    return Task(
        ids_NBF=places_FR[np.arange(FEATURES), ranks_NBF],
        numbers_NBD=generator.normal(size=(batches, BATCH, NUMBERS)).astype(np.float32),
        labels_NBT=(generator.random((batches, BATCH, tasks)) < 0.3).astype(np.float32),
        rows=rows,
    )
