"""What training leaves behind: the model of the best epoch, what its optimizers keep, and the history."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from onehull.errors import ArtifactError
from onehull.files import move_into_place
from onehull.model import MultiTaskModel
from onehull.train.checkpoint import Progress, write_atomically
from onehull.train.slots import save_slots

MODEL, SLOTS, HISTORY = "model.keras", "slots.npz", "history.json"


def save_best(directory: Path, model: MultiTaskModel) -> Path:
    """Writes the model as it is now, without its optimizer, in the place of an earlier best one.

    What optimizers and balancer keep stands beside it, for the training that begins with this model. Killed between
    the two, the run does the epoch again, and writes both again.

    Raises:
        ArtifactError: it cannot be written; the earlier one is intact.
    """
    path = directory / MODEL
    building = directory / ".best"
    # The same layers without what compile added: a third of the size, and the same predictions.
    inference = MultiTaskModel(inputs=model.input, outputs=model.output, name=model.name)
    try:
        building.mkdir(parents=True, exist_ok=True)
        with _described_in_float32(inference):
            inference.save(building / MODEL)
        move_into_place(building / MODEL, path)
        if model.compiled:
            save_slots(directory / SLOTS, model)
    except OSError as error:
        remedy = "Free some space, then run the same command again: it continues."
        raise ArtifactError(f"{path} cannot be written: {error}. The last good model is intact. {remedy}") from error
    finally:
        with suppress(OSError):
            shutil.rmtree(building)
    return path


@contextmanager
def _described_in_float32(model: MultiTaskModel) -> Iterator[None]:
    """A model whose layers say that they calculate in float32, for its file.

    bfloat16 is how training is made faster on the machine that it runs on. The weights are float32, and LiteRT and many
    machines that serve have no bfloat16.
    """
    layers = [layer for layer in model._flatten_layers() if str(layer.dtype_policy.name).startswith("mixed_")]
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = keras.DTypePolicy("float32")
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy


def save_history(directory: Path, progress: Progress) -> Path:
    """Writes ``history.json``: measures by epoch, the best epoch, the time."""
    path = directory / HISTORY
    text = json.dumps(asdict(progress), indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()), "The last good history is intact.")
    return path


def load_history(directory: Path) -> list[dict[str, float]]:
    """The measures of each epoch of a training; those that were not defined are left out.

    Raises:
        ArtifactError: there is no history.
    """
    history: dict[str, list[float | None]] = _read(directory)["history"]
    epochs = range(max(map(len, history.values()), default=0))
    measures = [[(name, values[epoch]) for name, values in history.items()] for epoch in epochs]
    return [{name: value for name, value in epoch if value is not None} for epoch in measures]


def load_conflicts(directory: Path) -> dict[str, Any] | None:
    """The conflict matrices of a training: its tasks, and the mean cosines of each epoch.

    Returns:
        None where no balancer compared gradients.

    Raises:
        ArtifactError: there is no history.
    """
    progress = _read(directory)
    if not progress.get("conflicts"):
        return None
    return {"tasks": progress["conflict_tasks"], "by_epoch": progress["conflicts"]}


def _read(directory: Path) -> dict[str, Any]:
    path = directory / HISTORY
    try:
        progress: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        progress["history"].items()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        message = f"{path} holds no history of a training: {error}. Make it with: onehull train"
        raise ArtifactError(message) from error
    return progress
