"""The training loop: steps, validation, checkpoints, early stopping."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf
from rich.progress import Progress as Bars

from onehull.errors import DataError
from onehull.model import MultiTaskModel
from onehull.spec.training import Training
from onehull.train.board import Board
from onehull.train.callbacks import EpochBar, epoch_text, not_finite_text, progress_bars
from onehull.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from onehull.train.history import save_best, save_history
from onehull.train.steps import Steps
from onehull.train.validation import Measures, Validation, epoch_score

_LOG = logging.getLogger(__name__)
CHECKPOINTS, TENSORBOARD = "checkpoints", "tensorboard"
_FEWEST_STEPS, _CALL_SECONDS = 16, 0.25
"""Steps of the first call, and how long a call should at least take: what stands between two calls (the guard, the
progress bar, the look at the clock) then costs nothing, and an interruption does not wait."""


class Position(NamedTuple):
    """Which batches of an epoch are wanted.

    Attributes:
        epoch: its number, from 0.
        batch: the first batch that is wanted; the epoch has been interrupted before it.
        replica: which replica's rows of each batch, from 0: `replica`, `replica` + `replicas`, …
        replicas: number of replicas that a batch is for.
    """

    epoch: int
    batch: int = 0
    replica: int = 0
    replicas: int = 1


EpochData = Callable[[Position], tf.data.Dataset]
"""Position → batches of ``(inputs, labels)`` from there to the end of the epoch, whose number is known
(`tf.data.Dataset.cardinality`)."""


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

    After each epoch, and at least every ``training.checkpoint_minutes``, a checkpoint is written. Started again, it
    continues behind the last one and, with deterministic operations, gives the same bits as a run that was never
    interrupted.

    Args:
        model: a compiled model.
        train_data: batches of an epoch; must depend on the position only.
        validation_data: the same batches each time.
        training: epochs, patience, what selects the epoch.
        out_dir: directory for checkpoints, model, history and TensorBoard.
        binary: tasks whose AUC is measured.
        fingerprint: of data and settings; a checkpoint with another one is not continued.
        progress: whether to draw progress bars, or where.
        resume: continue an interrupted run.

    Raises:
        DataError: a loss is not finite; names the task and the batch.
        ArtifactError: the disk is full; the last checkpoint is intact.
    """
    steps = Steps(model)
    fresh: tuple[Progress, tuple[Path, ...]] = (Progress(fingerprint), ())
    state, skipped = load_checkpoint(out_dir / CHECKPOINTS, model, fingerprint) if resume else fresh
    begun = state.epoch
    validation = Validation(model, validation_data, binary)
    board = Board(out_dir / TENSORBOARD) if training.tensorboard else None
    bars = progress if isinstance(progress, Bars) else (progress_bars() if progress else None)
    run = _Run(model, steps, train_data, training, out_dir, state, bars)
    with bars if bars is not None and bars is not progress else nullcontext():
        while state.epoch < training.epochs and not _patience_is_over(state, training.patience):
            measures = run.epoch(validation)
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


@dataclass
class _Run:
    """A training in progress."""

    model: MultiTaskModel
    steps: Steps
    train_data: EpochData
    training: Training
    out_dir: Path
    state: Progress
    bars: Bars | None
    per_call: int = _FEWEST_STEPS
    saved_at: float = 0.0

    def epoch(self, validation: Validation) -> Measures:
        """Trains what is left of an epoch, measures it, and saves where training stands."""
        model, state = self.model, self.state
        start = self.saved_at = time.monotonic()
        if state.batch == 0:
            model.reset_metrics()
        self._train()
        measures: Measures = {name: float(value) for name, value in model.get_metrics_result().items()}
        with averaged_weights(model):
            measures.update(validation.measure())
            state.seconds += time.monotonic() - start
            self._note(measures)
        self._save()
        return measures

    def _train(self) -> None:
        """Takes in the rest of the epoch."""
        state, replicas = self.state, self.model.distribute_strategy.num_replicas_in_sync
        first = self._part(0, replicas)
        total = state.batch + _known_length(first)
        iterator = self.steps.iterate(lambda replica, of: first if replica == 0 else self._part(replica, of))
        with EpochBar(self.bars, state.epoch + 1, self.training.epochs, total) as bar:
            while state.batch < total:
                count = min(self.per_call, total - state.batch)
                begun = time.monotonic()
                self.steps(iterator, count)
                state.batch += count
                self._check_finite()
                bar.show(state.batch, self.model)
                now = time.monotonic()
                if now - begun < _CALL_SECONDS:
                    self.per_call *= 2
                if state.batch < total and self._is_due(now):
                    self._save()

    def _part(self, replica: int, replicas: int) -> tf.data.Dataset:
        return self.train_data(Position(self.state.epoch, self.state.batch, replica, replicas))

    def _check_finite(self) -> None:
        """Raises DataError where a loss was not finite and such batches are not left out."""
        found = self.model.not_finite
        if self.training.non_finite != "skip" and found:
            raise DataError(not_finite_text(self.model, self.state, self.training.learning_rate))

    def _is_due(self, now: float) -> bool:
        minutes = self.training.checkpoint_minutes
        return minutes is not None and now - self.saved_at >= 60 * minutes

    def _save(self) -> None:
        save_checkpoint(self.out_dir / CHECKPOINTS, self.model, self.state)
        self.saved_at = time.monotonic()

    def _note(self, measures: Measures) -> None:
        """Notes the epoch; writes the model when it is the best one."""
        model, state = self.model, self.state
        score = epoch_score(measures, self.training.select_by)
        state.epoch, state.batch = state.epoch + 1, 0
        for name, value in measures.items():
            state.history.setdefault(name, []).append(value)
        if model.conflicts is not None:
            matrix_TT = model.conflicts.matrix()
            state.conflict_tasks = list(model.conflicts.tasks)
            state.conflicts.append(
                [[None if math.isnan(value) else float(value) for value in row] for row in matrix_TT]
            )
        _note_skipped(model, state)
        if score is None or state.best_score is None or score > state.best_score:
            state.best_epoch, state.best_score, state.since_best = state.epoch, score, 0
            save_best(self.out_dir, model)
        else:
            state.since_best += 1


@contextmanager
def averaged_weights(model: MultiTaskModel) -> Iterator[None]:
    """The model with the running averages of its weights, where the optimizer keeps any (``use_ema``)."""
    optimizer = model.optimizer
    if not optimizer.use_ema:
        yield
        return
    pairs = list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True))
    own = [tf.identity(variable.value) for variable, _ in pairs]
    try:
        for variable, average in pairs:
            variable.assign(average.value)
        yield
    finally:
        for (variable, _), value in zip(pairs, own, strict=True):
            variable.assign(value)


def _known_length(batches: tf.data.Dataset) -> int:
    """Number of batches.

    Raises:
        ValueError: it is not known.
    """
    length = int(batches.cardinality())
    if length < 0:
        remedy = "Say it with dataset.apply(tf.data.experimental.assert_cardinality(number of batches))."
        raise ValueError(f"train_data must give datasets whose number of batches is known. {remedy}")
    return length


def _patience_is_over(state: Progress, patience: int) -> bool:
    return state.since_best > 0 and state.since_best >= patience


def _note_skipped(model: MultiTaskModel, state: Progress) -> None:
    """Says how many batches were left out because they were not finite, where the epoch had any."""
    found = model.not_finite
    if found != state.skipped:
        counts = ", ".join(f"{task}: {steps}" for task, steps in found.items())
        _LOG.warning("epoch %d: batches left out so far because a loss was not finite: %s", state.epoch, counts)
    state.skipped = found
