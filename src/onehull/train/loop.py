"""The training loop: steps, validation, checkpoints, early stopping."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from rich.console import Console
from rich.progress import Progress as Bars

from onehull.errors import ArtifactError, DataError
from onehull.model import MultiTaskModel
from onehull.spec.training import Training
from onehull.train.average import averaged_weights
from onehull.train.board import Board
from onehull.train.callbacks import EpochBar, epoch_text, progress_bars
from onehull.train.checkpoint import Progress, Settings, forget_checkpoints, load_checkpoint, save_checkpoint
from onehull.train.history import save_best, save_history
from onehull.train.interrupt import Interruption
from onehull.train.non_finite import check_return, not_finite_batch, not_finite_text, weights_check, weights_text
from onehull.train.steps import Steps
from onehull.train.telemetry import Stopwatch, Telemetry
from onehull.train.validation import Measures, Validation, epoch_score
from onehull.train.workers import Workers

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
        skipped: damaged checkpoints that were passed over.
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
    settings: Settings | None = None,
    progress: bool | Bars = False,
    resume: bool = True,
) -> FitResult:
    """Trains a compiled model; the best epoch on validation is written to ``model.keras``.

    After each epoch, and at least every ``training.checkpoint_minutes``, a checkpoint is written. Started again, it
    continues behind the last one and, with deterministic operations, gives the same bits as a run that was never
    interrupted. Ctrl-C and SIGTERM finish the running steps and save; a second one stops at once.

    A model built in the scope of a strategy over several processes is trained by all of them: each calls this with the
    same arguments, and the first one writes.

    Args:
        model: a compiled model.
        train_data: batches of an epoch; must depend on the position only.
        validation_data: the same batches each time.
        training: epochs, patience, what selects the epoch.
        out_dir: directory for checkpoints, model, history and TensorBoard.
        binary: tasks whose AUC is measured.
        settings: what the training is of, as JSON; a checkpoint of other settings is refused.
        progress: whether to draw progress bars, or where.
        resume: continue an interrupted run; False removes its checkpoints and begins anew.

    Raises:
        DataError: a loss is not finite; names the task and the batch.
        ArtifactError: the disk is full, and the last checkpoint is intact; or the checkpoints are of other settings,
            and it says which.
        KeyboardInterrupt: after Ctrl-C; SystemExit after SIGTERM. Where training stands is saved.
    """
    steps, workers = Steps(model), Workers(model.distribute_strategy)
    settings = dict(settings or {})
    if not resume and workers.is_first:
        forget_checkpoints(out_dir / CHECKPOINTS)
    workers.any(True)  # nobody looks for checkpoints before these are gone
    found, skipped = load_checkpoint(out_dir / CHECKPOINTS, model, settings)
    state = found or Progress(settings)
    workers.check_same("the checkpoint that training continues from", state.place)
    begun = state.epoch
    validation = Validation(model, validation_data, binary)
    board = Board(out_dir / TENSORBOARD) if training.tensorboard and workers.is_first else None
    bars = _bars(progress, workers)
    own_bars = bars if bars is not None and bars is not progress else nullcontext()
    with own_bars, Interruption() as interruption:
        run = _Run(model, steps, train_data, training, out_dir, state, bars, interruption, workers)
        if found is None and training.non_finite == "step_back":
            run.save()
        while not run.is_over:
            measures = run.epoch(validation)
            _tell(run, board, measures)
            run.stop_if_asked()
    if board is not None:
        board.close()
    if workers.is_first:
        save_history(out_dir, run.state)
    return FitResult(run.state, begun, skipped)


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
    interruption: Interruption
    workers: Workers
    per_call: int = _FEWEST_STEPS
    saved_at: float = field(default_factory=time.monotonic)
    weights_are_finite: Callable[[], bool] = field(init=False)
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self) -> None:
        self.weights_are_finite = weights_check(self.model)

    @property
    def is_over(self) -> bool:
        """Whether there is no epoch left to train."""
        state = self.state
        return state.epoch >= self.training.epochs or _patience_is_over(state, self.training.patience)

    def epoch(self, validation: Validation) -> Measures:
        """Trains what is left of an epoch, measures it, and saves where training stands."""
        model = self.model
        self.stopwatch = Stopwatch(Telemetry(**self.state.spent))
        while not self._take_in():
            self._step_back()
        self.state.spent = asdict(self.stopwatch.read())
        measures: Measures = {name: float(value) for name, value in model.get_metrics_result().items()}
        with averaged_weights(model):
            measured = self.workers.from_first(lambda: validation.measure(lambda: self.interruption.asked is not None))
            if measured is not None:
                measures.update(measured)
                self._note(measures)
        # Only here are the weights those that training goes on with.
        self.save()
        if measured is None:
            self.stop_if_asked()
        return measures

    def save(self) -> None:
        """Writes a checkpoint."""
        now = time.monotonic()
        self.state.seconds += now - self.saved_at
        self.saved_at = now
        if self.state.batch:
            self.state.spent = asdict(self.stopwatch.read())
        save_checkpoint(self.out_dir / CHECKPOINTS, self.model, self.state, write=self.workers.is_first)

    def stop_if_asked(self) -> None:
        """Ends a training that was interrupted and has been saved; says how to continue."""
        (asked,) = self.workers.any(self.interruption.asked is not None)
        if asked:
            where = f"{self.state.place}; saved in {self.out_dir / CHECKPOINTS}"
            self.interruption.stop(f"Stopped in {where}. Run the same command again: it continues there.")

    def _take_in(self) -> bool:
        """Takes in the rest of the epoch; False where training is to step back."""
        state, model = self.state, self.model
        if state.batch == 0:
            model.reset_metrics()
        replicas = model.distribute_strategy.num_replicas_in_sync
        first = self._part(0, replicas)
        total = state.batch + _known_length(first)
        iterator = self.steps.iterate(lambda replica, of: first if replica == 0 else self._part(replica, of))
        with EpochBar(self.bars, state.epoch + 1, self.training.epochs, total) as bar:
            while state.batch < total:
                if [state.epoch, state.batch] in state.left_out:
                    next(iterator)
                    state.batch += 1
                    continue
                self._call(iterator, self._until_left_out(min(state.batch + self.per_call, total)))
                if not self._is_finite():
                    return False
                bar.show(state.batch, model, self.stopwatch.read())
                asked, due = self.workers.any(self.interruption.asked is not None, self._is_due())
                if asked or (state.batch < total and due):
                    self.save()
                    self.stop_if_asked()
        return True

    def _call(self, iterator: Iterator[Any], end: int) -> None:
        """Takes in batches up to one; makes the next call longer where this one was short."""
        begun = time.monotonic()
        self.stopwatch.add(*self.steps(iterator, end - self.state.batch))
        self.state.batch = end
        (short,) = self.workers.any(time.monotonic() - begun < _CALL_SECONDS)
        if short:
            self.per_call *= 2

    def _until_left_out(self, end: int) -> int:
        """The end of a call: no batch that is to be left out stands before it."""
        state = self.state
        left = [batch for epoch, batch in state.left_out if epoch == state.epoch and batch > state.batch]
        return min([end, *left])

    def _part(self, replica: int, replicas: int) -> tf.data.Dataset:
        return self.train_data(Position(self.state.epoch, self.state.batch, replica, replicas))

    def _is_finite(self) -> bool:
        """Whether the losses were finite, or such batches are left out as they come.

        Raises:
            DataError: they were not, and training is to stop; or weights are not, which no checkpoint may hold.
        """
        if self.training.non_finite == "skip":
            return True
        if not self.model.not_finite:
            if not self.weights_are_finite():
                raise DataError(weights_text(self.state, self.training.learning_rate))
            return True
        if self.training.non_finite == "stop":
            raise DataError(not_finite_text(self.model, self.state, self.training.learning_rate))
        return False

    def _step_back(self) -> None:
        """Goes on from the last checkpoint, without the batch at which a loss was not finite.

        Raises:
            DataError: that has been done in vain.
            ArtifactError: no checkpoint is left.
        """
        state, batch = self.state, not_finite_batch(self.model, self.state)
        text = not_finite_text(self.model, state, self.training.learning_rate)
        check_return(state, batch, text)
        directory = self.out_dir / CHECKPOINTS
        restored, _ = load_checkpoint(directory, self.model, state.settings)
        if restored is None:
            raise ArtifactError(f"{directory} holds no checkpoint to step back to. {text}")
        restored.left_out, restored.seconds = [*state.left_out, [state.epoch, batch]], state.seconds
        self.state = restored
        _LOG.warning("%s Goes on from %s, without this batch.", text, restored.place)
        self.save()

    def _is_due(self) -> bool:
        minutes = self.training.checkpoint_minutes
        return minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes

    def _note(self, measures: Measures) -> None:
        """Notes the epoch; writes the model when it is the best one."""
        model, state = self.model, self.state
        score = epoch_score(measures, self.training.select_by)
        state.epoch, state.batch = state.epoch + 1, 0
        state.telemetry, state.spent = [*state.telemetry, state.spent], {}
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
            if self.workers.is_first:
                save_best(self.out_dir, model)
        else:
            state.since_best += 1


def _bars(progress: bool | Bars, workers: Workers) -> Bars | None:
    """Where progress is shown, by the first worker. All of them read what is shown, because its sums are spread."""
    if workers.is_first and progress:
        return progress if isinstance(progress, Bars) else progress_bars()
    return progress_bars(Console(quiet=True)) if workers.count > 1 else None


def _tell(run: _Run, board: Board | None, measures: Measures) -> None:
    """Shows a finished epoch."""
    state, bars = run.state, run.bars
    telemetry = Telemetry(**state.telemetry[-1])
    if board is not None:
        board.write(state.epoch, measures)
        board.write_curves(state.epoch, telemetry.curves())
        if state.conflicts:
            board.write_conflicts(state.epoch, state.conflict_tasks, state.conflicts[-1])
    if bars is not None:
        text = f"{epoch_text(state.epoch, run.training.epochs, measures)}  {telemetry.text()}"
        bars.console.print(text, highlight=False, soft_wrap=True)


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
