"""The training loop: epochs of Keras' `fit`, validation, checkpoints, early stopping."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from rich.progress import Progress as Bars

from onehull.model import MultiTaskModel
from onehull.spec.training import Training
from onehull.train.board import Board
from onehull.train.callbacks import EpochBar, FiniteLoss, epoch_text, progress_bars
from onehull.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from onehull.train.history import save_best, save_history
from onehull.train.validation import Measures, Validation, epoch_score

_LOG = logging.getLogger(__name__)
CHECKPOINTS, TENSORBOARD = "checkpoints", "tensorboard"

EpochData = Callable[[int], tf.data.Dataset]
"""Number of an epoch, from 0 → its batches of ``(inputs, labels)``."""


@dataclass(frozen=True)
class FitResult:
    """How a fit ended.

    Attributes:
        progress: history, best epoch and time.
        continued_from: epochs that were complete when it began; 0 for a fresh start.
        skipped: damaged or foreign checkpoints that were passed over.
    """

    progress: Progress
    continued_from: int
    skipped: tuple[Path, ...]


def fit_model(
    model: MultiTaskModel,
    train_data: EpochData,
    validation_data: tf.data.Dataset,
    training: Training,
    out_dir: Path,
    *,
    binary: Sequence[str] = (),
    fingerprint: str = "",
    progress: bool | Bars = False,
    resume: bool = True,
) -> FitResult:
    """Trains a compiled model; the best epoch on validation is written to ``model.keras``.

    After each epoch a checkpoint is written. Started again, it continues behind the last one and, with deterministic
    operations, gives the same bits as a run that was never interrupted.

    Args:
        model: a compiled model.
        train_data: batches of an epoch; must depend on the epoch's number only.
        validation_data: the same batches each time.
        training: epochs, patience, what selects the epoch.
        out_dir: directory for checkpoints, model, history and TensorBoard.
        binary: tasks whose AUC is measured.
        fingerprint: of data and settings; a checkpoint with another one is not continued.
        progress: whether to draw progress bars, or where.
        resume: continue an interrupted run.

    Raises:
        DataError: a loss is not finite; names the task.
        ArtifactError: the disk is full; the last checkpoint is intact.
    """
    model.optimizer.build(model.trainable_variables)
    fresh: tuple[Progress, tuple[Path, ...]] = (Progress(fingerprint), ())
    state, skipped = load_checkpoint(out_dir / CHECKPOINTS, model, fingerprint) if resume else fresh
    begun = state.epoch
    validation = Validation(model, validation_data, binary)
    board = Board(out_dir / TENSORBOARD) if training.tensorboard else None
    bars = progress if isinstance(progress, Bars) else (progress_bars() if progress else None)
    with bars if bars is not None and bars is not progress else nullcontext():
        while state.epoch < training.epochs and not _patience_is_over(state, training.patience):
            measures = _one_epoch(model, train_data, validation, state, training, bars)
            _finish_epoch(model, measures, state, training, out_dir)
            if board is not None:
                board.write(state.epoch, measures)
                if state.conflicts:
                    board.write_conflicts(state.epoch, state.conflict_tasks, state.conflicts[-1])
            if bars is not None:
                bars.console.print(epoch_text(state.epoch, training.epochs, measures), highlight=False, soft_wrap=True)
    if board is not None:
        board.close()
    save_history(out_dir, state)
    return FitResult(state, begun, skipped)


def _one_epoch(
    model: MultiTaskModel,
    train_data: EpochData,
    validation: Validation,
    state: Progress,
    training: Training,
    bars: Bars | None,
) -> Measures:
    """Trains one epoch and measures it; adds the time that it took."""
    start = time.monotonic()
    callbacks = [FiniteLoss(f"learning_rate is {training.learning_rate}.")]
    if bars is not None:
        callbacks.append(EpochBar(bars, training.epochs))
    # One call of fit an epoch, because the order of rows belongs to the epoch; the compiled step is kept.
    fitted = model.fit(
        train_data(state.epoch),
        initial_epoch=state.epoch,
        epochs=state.epoch + 1,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    measures: Measures = {name: float(values[-1]) for name, values in fitted.history.items()}
    measures.update(validation.measure())
    state.seconds += time.monotonic() - start
    return measures


def _finish_epoch(
    model: MultiTaskModel, measures: Measures, state: Progress, training: Training, out_dir: Path
) -> None:
    """Notes the epoch; writes the model when it is the best one, and then the checkpoint."""
    score = epoch_score(measures, training.select_by)
    state.epoch += 1
    for name, value in measures.items():
        state.history.setdefault(name, []).append(value)
    if model.conflicts is not None:
        matrix_TT = model.conflicts.matrix()
        state.conflict_tasks = list(model.conflicts.tasks)
        state.conflicts.append([[None if math.isnan(value) else float(value) for value in row] for row in matrix_TT])
    _note_skipped(model, state)
    if score is None or state.best_score is None or score > state.best_score:
        state.best_epoch, state.best_score, state.since_best = state.epoch, score, 0
        save_best(out_dir, model)
    else:
        state.since_best += 1
    save_checkpoint(out_dir / CHECKPOINTS, model, state)


def _patience_is_over(state: Progress, patience: int) -> bool:
    return state.since_best > 0 and state.since_best >= patience


def _note_skipped(model: MultiTaskModel, state: Progress) -> None:
    """Says how many batches were left out because they were not finite, where the epoch had any."""
    found = model.not_finite
    if found != state.skipped:
        counts = ", ".join(f"{task}: {steps}" for task, steps in found.items())
        _LOG.warning("epoch %d: batches left out so far because a loss was not finite: %s", state.epoch, counts)
    state.skipped = found
