"""Checkpoints: everything that training continues from, in one file that is whole or absent.

A file holds the weights, what both optimizers keep, the sums of the metrics, the state of the balancer and of the
coverage, the seeds of dropout, and the `Progress`: position, history, batches left out, and the settings and data that
the training is of. The order of the rows is a function of (seed, epoch), so that the position is all that the input
needs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from onehull.errors import ArtifactError
from onehull.files import replacing
from onehull.model import MultiTaskModel
from onehull.train.archive import DAMAGE, Archive, write_arrays

_LOG = logging.getLogger(__name__)
_KEPT = 2
"""Checkpoints that are kept: the last one, and one to fall back to."""
_PROGRESS = "progress"
_SHOWN = 8
Settings = Mapping[str, Any]
"""What a training is of, as JSON: sections of the spec, keys of the data."""


@dataclass
class Progress:
    """How far training has come.

    Attributes:
        settings: the settings and data; a checkpoint of others is refused.
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
        telemetry: what each epoch took (`onehull.train.telemetry.Telemetry`).
        spent: what the epoch that is not complete has taken so far.
        left_out: batches that training has stepped back from, as [epoch, batch], both from 0.
    """

    settings: dict[str, Any] = field(default_factory=dict)
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
    telemetry: list[dict[str, Any]] = field(default_factory=list)
    spent: dict[str, Any] = field(default_factory=dict)
    left_out: list[list[int]] = field(default_factory=list)

    @property
    def place(self) -> str:
        """The position in words."""
        return f"epoch {self.epoch + 1}, {self.batch} batches done"


def save_checkpoint(directory: Path, model: MultiTaskModel, progress: Progress, *, write: bool = True) -> Path:
    """Writes a checkpoint, then removes all but this one and the one before it.

    Args:
        directory: of the checkpoints; is made.
        model: a compiled model whose optimizers are built.
        progress: how far training has come.
        write: False for the workers that only take part, each holding its share of the metrics.

    Raises:
        ArtifactError: it cannot be written; the checkpoints before it are intact.
    """
    path = directory / f"epoch-{progress.epoch:05d}-{progress.batch:08d}.npz"
    variables = _variables(model)
    # Sums of several workers are added up when they are read, which takes all of these.
    variables |= {key: np.asarray(variable) for key, variable in variables.items() if key.startswith("metrics/")}
    if not write:
        return path
    for unfinished in directory.glob(".epoch-*.tmp"):
        unfinished.unlink(missing_ok=True)
    texts = {_PROGRESS: json.dumps(asdict(progress))}
    write_atomically(
        path,
        lambda file: write_arrays(file, variables.items(), texts),
        "The last good checkpoint is intact.",
    )
    # Later ones are damaged, or training has stepped back behind them.
    kept = [file for file in checkpoint_files(directory) if file.name <= path.name][-_KEPT:]
    for old in checkpoint_files(directory):
        if old not in kept:
            old.unlink(missing_ok=True)
    return path


def load_checkpoint(
    directory: Path, model: MultiTaskModel, settings: Settings
) -> tuple[Progress | None, tuple[Path, ...]]:
    """Puts the last good checkpoint into a model; a damaged one is passed over, with a warning.

    Args:
        directory: of the checkpoints; may be missing.
        model: a compiled model whose optimizers are built.
        settings: what is to be continued.

    Returns:
        How far that training had come (None where there is no good checkpoint), and the files passed over.

    Raises:
        ArtifactError: the checkpoint is of other settings, other data or another model; says what differs.
    """
    damaged: list[Path] = []
    for path in reversed(checkpoint_files(directory)):
        try:
            with Archive(path) as archive:
                progress = Progress(**json.loads(archive.text(_PROGRESS)))
                _check_settings(path, progress.settings, settings)
                _restore(path, archive, model)
                return progress, tuple(damaged)
        except DAMAGE as error:
            _LOG.warning("checkpoint %s is damaged, the one before it is used: %s", path, error)
        damaged.append(path)
    return None, tuple(damaged)


def checkpoint_files(directory: Path) -> list[Path]:
    """Checkpoints of a directory, the oldest first."""
    return sorted(directory.glob("epoch-*.npz"))


def forget_checkpoints(directory: Path) -> None:
    """Removes the checkpoints of a training that is not to be continued."""
    for path in checkpoint_files(directory):
        path.unlink(missing_ok=True)


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any], intact: str) -> None:
    """Writes a file that is whole or absent, also when the machine stops.

    Args:
        path: of the file; its directory is made.
        write: fills an open file.
        intact: what the message says of what stood there before.

    Raises:
        ArtifactError: the disk is full, or the directory cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            write(file)
    except OSError as error:
        remedy = "Free some space, then run the same command again: it continues."
        raise ArtifactError(f"{path} cannot be written: {error}. {intact} {remedy}") from error


def _variables(model: MultiTaskModel) -> dict[str, Any]:
    """Every variable under a key that is unique: weights and seeds of dropout, optimizers, sums of metrics, state."""
    parts: list[tuple[str, Sequence[Any]]] = [
        ("model", model.variables),
        ("optimizer", model.optimizer.variables),
        ("embedding_optimizer", model.embedding_optimizer.variables if model.embedding_optimizer is not None else ()),
        ("metrics", [variable for metric in model.metrics for variable in metric.variables]),
    ]
    numbered = {f"{part}/{index}": variable for part, group in parts for index, variable in enumerate(group)}
    return numbered | {f"state/{name}": variable for name, variable in model.training_state.items()}


def _restore(path: Path, archive: Archive, model: MultiTaskModel) -> None:
    """Assigns all variables, or none where one does not fit."""
    variables = _variables(model)
    saved = {key: archive.shape(key) for key in archive.keys if key != _PROGRESS}
    now = {key: tuple(variable.shape) for key, variable in variables.items()}
    _refuse(path, _differences(saved, now), "of the same variables")
    for key, variable in variables.items():
        archive.restore(key, variable)


def _check_settings(path: Path, saved: Settings, now: Settings) -> None:
    """Refuses a checkpoint of other settings."""
    _refuse(path, _differences(_flat(saved), _flat(json.loads(json.dumps(now)))), "of the same spec and data")


def _refuse(path: Path, differences: Sequence[str], rule: str) -> None:
    if not differences:
        return
    more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    remedy = f"Train into another directory, or begin anew: delete {path.parent}."
    raise ArtifactError(f"{path} must be {rule}. It differs: {'; '.join(differences[:_SHOWN])}{more}. {remedy}")


def _differences(saved: Settings, now: Settings) -> list[str]:
    return [
        f"{key}: {_shown(saved, key)} in the checkpoint, {_shown(now, key)} now"
        for key in {**saved, **now}
        if key not in saved or key not in now or saved[key] != now[key]
    ]


def _shown(values: Settings, key: str) -> str:
    return repr(values[key]) if key in values else "absent"


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    if not isinstance(settings, Mapping) or not settings:
        return {prefix: settings} if prefix else {}
    names = ((f"{prefix}.{key}" if prefix else str(key), value) for key, value in settings.items())
    return {name: value for key, part in names for name, value in _flat(part, key).items()}
