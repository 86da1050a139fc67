"""What watches training batch by batch: the guard against losses that are not finite, and the progress bar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from onehull.errors import DataError
from onehull.model import MultiTaskModel
from onehull.train.telemetry import Telemetry


class FiniteLoss(keras.callbacks.Callback):
    """Stops training when the loss of a task is not finite, and says whose it is.

    Args:
        hint: what the reader of the message may change.
    """

    def __init__(self, hint: str = "") -> None:
        super().__init__()
        self._hint = hint
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Remembers the epoch for the message."""
        del logs
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Checks the losses so far; a loss that was once not finite stays so until the epoch ends.

        Raises:
            DataError: a loss is not finite.
        """
        losses = {name: float(value) for name, value in (logs or {}).items() if name.endswith("loss")}
        if all(math.isfinite(value) for value in losses.values()):
            return
        tasks = self.model.not_finite if isinstance(self.model, MultiTaskModel) else ()
        whose = f"the loss of task {', '.join(map(repr, tasks))}" if tasks else "the total loss"
        where = f"epoch {self._epoch + 1}, at or before step {batch + 1}"
        raise DataError(
            f"{whose} must be finite. Received {losses} in {where}. Labels or inputs may hold values that are not "
            f"finite or far too large, or the learning rate is too high. {self._hint}".rstrip()
        )


class EpochBar:
    """One line for an epoch in a progress bar, with the loss of every task.

    Args:
        bars: where to draw; None draws nothing.
        epoch: number of the epoch, from 1.
        epochs: number of epochs.
        steps: number of steps of the epoch.
    """

    def __init__(self, bars: Bars | None, epoch: int, epochs: int, steps: int) -> None:
        self._bars, self._title, self._steps = bars, f"epoch {epoch}/{epochs}", steps
        self._line: Any = None

    def __enter__(self) -> EpochBar:
        if self._bars is not None:
            self._line = self._bars.add_task(self._title, total=self._steps, losses="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.remove_task(self._line)

    def show(self, done: int, model: MultiTaskModel, telemetry: Telemetry) -> None:
        """Moves the line on, to a number of steps."""
        if self._bars is not None:
            text = f"{losses_text(model.get_metrics_result())}  {telemetry.text()}"
            self._bars.update(self._line, completed=done, losses=text)


def progress_bars(console: Console | None = None) -> Bars:
    """Progress bars on standard error; without a terminal, nothing but what is printed through them."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Bars(*columns, TextColumn("{task.fields[losses]}"), console=console or Console(stderr=True), transient=True)


def losses_text(logs: Mapping[str, Any]) -> str:
    """The losses of a log in one line: the total, then each task's."""
    names = [name for name in logs if name.endswith("_loss") and not name.startswith("val_")]
    tasks = [f"{name.removesuffix('_loss')} {float(logs[name]):.4f}" for name in sorted(names)]
    return "  ".join([f"loss {float(logs['loss']):.4f}", *tasks]) if "loss" in logs else "  ".join(tasks)


def epoch_text(epoch: int, epochs: int, measures: Mapping[str, float | None]) -> str:
    """A finished epoch in one line: losses on training, loss and AUCs on validation."""
    parts = [f"epoch {epoch}/{epochs}", losses_text({k: v for k, v in measures.items() if v is not None})]
    loss = measures.get("val_loss")
    if loss is not None:
        parts.append(f"validation loss {loss:.4f}")
    for name, value in measures.items():
        if name.startswith("val_") and name.endswith("_auc"):
            task = name.removeprefix("val_").removesuffix("_auc")
            parts.append(f"AUC {task} {'undefined' if value is None else f'{value:.4f}'}")
    return "  ".join(parts)
