"""Checkpoints after each epoch: everything that training continues from, in one file that is whole or absent."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from onehull.errors import ArtifactError
from onehull.model import MultiTaskModel

_LOG = logging.getLogger(__name__)
_KEPT = 2
"""Checkpoints that are kept: the last one, and one to fall back to."""


@dataclass
class Progress:
    """How far training has come.

    Attributes:
        fingerprint: of the data and settings; a checkpoint of others is not continued.
        epoch: epochs that are complete.
        batch: batches of the next epoch that have been taken in.
        best_epoch: the epoch with the best score, counted from 1; 0 before the first.
        best_score: its score, None where validation says nothing.
        since_best: complete epochs after the best one.
        history: every measure, one value an epoch.
        seconds: time spent in training and validation.
        conflicts: mean cosine of each pair of tasks' gradients, one matrix an epoch, in the order of `conflict_tasks`;
            None where a pair had no labels in the same batch. Empty where no balancer compares gradients.
        conflict_tasks: the tasks of the matrices.
        skipped: batches left out because they were not finite, by the task whose loss was not.
    """

    fingerprint: str
    epoch: int = 0
    batch: int = 0
    best_epoch: int = 0
    best_score: float | None = None
    since_best: int = 0
    history: dict[str, list[float | None]] = field(default_factory=dict)
    seconds: float = 0.0
    conflicts: list[list[list[float | None]]] = field(default_factory=list)
    conflict_tasks: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


def save_checkpoint(directory: Path, model: MultiTaskModel, progress: Progress) -> Path:
    """Writes the checkpoint of an epoch, then removes all but the last two.

    Raises:
        ArtifactError: it cannot be written; the checkpoints before it are intact.
    """
    arrays: dict[str, Any] = {key: np.asarray(variable) for key, variable in _variables(model)}
    arrays["progress"] = np.asarray(json.dumps(asdict(progress)))
    path = directory / f"epoch-{progress.epoch:05d}-{progress.batch:08d}.npz"
    write_atomically(path, lambda file: np.savez(file, **arrays), "The last good checkpoint is intact.")
    for old in checkpoint_files(directory)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(directory: Path, model: MultiTaskModel, fingerprint: str) -> tuple[Progress, tuple[Path, ...]]:
    """Puts the last good checkpoint into a model; a damaged one is passed over, with a warning.

    Args:
        directory: of the checkpoints; may be missing.
        model: a compiled model.
        fingerprint: of the data and settings; a checkpoint of others is passed over.

    Returns:
        How far that training had come (nothing, where there is no good checkpoint), and the files passed over.
    """
    skipped: list[Path] = []
    for path in reversed(checkpoint_files(directory)):
        try:
            arrays = _read(path)
            progress = Progress(**json.loads(str(arrays.pop("progress"))))
            if progress.fingerprint == fingerprint:
                _restore(model, arrays)
                return progress, tuple(skipped)
            reason: object = "it belongs to other data or settings"
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
            reason = error
        _LOG.warning("checkpoint %s is passed over: %s", path, reason)
        skipped.append(path)
    return Progress(fingerprint), tuple(skipped)


def checkpoint_files(directory: Path) -> list[Path]:
    """Checkpoints of a directory, the oldest first."""
    return sorted(directory.glob("epoch-*.npz"))


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any], intact: str) -> None:
    """Writes a file that is whole or absent, also when the machine stops.

    Args:
        path: of the file; its directory is made.
        write: fills an open file.
        intact: what the message says of what stood there before.

    Raises:
        ArtifactError: the disk is full, or the directory cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        remedy = "Free some space, then run the same command again: it continues."
        raise ArtifactError(f"{path} cannot be written: {error}. {intact} {remedy}") from error


def _variables(model: MultiTaskModel) -> list[tuple[str, Any]]:
    """Every variable under a key that is unique: weights and seeds of dropout, optimizers, sums of metrics, balancer,
    coverage.
    """
    parts: list[tuple[str, Sequence[Any]]] = [
        ("model", model.variables),
        ("optimizer", model.optimizer.variables),
        ("embedding_optimizer", model.embedding_optimizer.variables if model.embedding_optimizer is not None else ()),
        ("metrics", [variable for metric in model.metrics for variable in metric.variables]),
    ]
    numbered = [(f"{part}/{index}", variable) for part, group in parts for index, variable in enumerate(group)]
    return [*numbered, *((f"state/{name}", variable) for name, variable in model.training_state.items())]


def _read(path: Path) -> dict[str, np.ndarray]:
    # The file is opened here, because NumPy leaves it open when the archive is damaged.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _restore(model: MultiTaskModel, arrays: dict[str, np.ndarray]) -> None:
    """Assigns all variables, or none where one does not fit."""
    variables = _variables(model)
    wrong = [key for key, variable in variables if key not in arrays or arrays[key].shape != tuple(variable.shape)]
    if wrong or len(arrays) != len(variables):
        raise ValueError(f"its variables are not the model's: {wrong or sorted(arrays)}")
    for key, variable in variables:
        variable.assign(arrays[key])
