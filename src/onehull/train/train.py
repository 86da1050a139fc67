"""From shards to a trained model."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console
from rich.progress import Progress as Bars

from onehull.errors import ArtifactError, DataError, Fault, SpecError, suggest
from onehull.model import MultiTaskModel, ParameterCosts, build_model, compile_model, parameter_costs
from onehull.optimizers.build import dense_optimizer, embedding_optimizer
from onehull.records import RecordsManifest, read_manifest, read_records, reading_errors
from onehull.records.read import MEMORY_LIMIT_BYTES
from onehull.spec import Spec
from onehull.spec.balance import Balance, StaticBalance
from onehull.spec.labels import LabelDistribution
from onehull.spec.tasks import BinaryTask, RegressionTask, Task
from onehull.train.history import MODEL
from onehull.train.loop import Position, fit_model
from onehull.train.memory import MemoryEstimate, check_tables_fit, estimate_memory
from onehull.train.precision import RECORD, Choice, candidates, choose, has_bfloat16
from onehull.train.probe import drawn_batch, step_seconds, twin_inputs
from onehull.train.telemetry import gpu_names
from onehull.train.warm_start import Start
from onehull.train.workers import Workers, joined_workers

_LOG = logging.getLogger(__name__)
VALIDATION_BATCH = 8192


@dataclass(frozen=True)
class TrainResult:
    """How training ended.

    Attributes:
        best_epoch: the epoch that validation chose, counted from 1; ``model.keras`` holds it.
        history: every measure, one value an epoch.
        model_path: of the chosen model.
        seconds: time spent in training and validation, over all interruptions.
        costs: what sharing saves.
        continued_from: epochs that were complete when this call began.
        skipped: damaged checkpoints that were passed over.
    """

    best_epoch: int
    history: dict[str, list[float | None]]
    model_path: Path
    seconds: float
    costs: ParameterCosts
    continued_from: int = 0
    skipped: tuple[Path, ...] = ()


def train(
    spec: Spec,
    records: Path,
    out_dir: Path,
    *,
    tasks: Sequence[str] | None = None,
    progress: bool | Bars = True,
    resume: bool = True,
    start: Start | None = None,
) -> TrainResult:
    """Trains the model of a spec on shards. Validation chooses the epoch; the test part is never read.

    Where TF_CONFIG names several workers, this process joins them, see `onehull.train.workers`.

    Args:
        spec: what is wanted.
        records: directory of shards.
        out_dir: directory for ``model.keras``, ``history.json``, checkpoints and TensorBoard.
        tasks: train on these tasks only (one: the single-task baseline). Default: all.
        progress: whether to show progress on standard error, or the bars to draw it in.
        resume: continue an interrupted training; False removes its checkpoints and begins anew.
        start: a trained model of the same spec to begin with. Default: initial values.

    Raises:
        SpecError: a task is not in the spec.
        ArtifactError: the shards are missing, lack a task, or have a test part that is the validation part; or
            the disk is full; or the checkpoints in `out_dir` are of another spec or of other data, and it says which.
        DataError: a loss is not finite; names the task.
    """
    chosen = _chosen_tasks(spec, tasks)
    manifest = read_manifest(records)
    check_parts(manifest, list(chosen), records)
    with joined_workers() as strategy:
        return _train(strategy, spec, records, out_dir, chosen, manifest, progress, resume, start)


def _train(
    strategy: tf.distribute.Strategy,
    spec: Spec,
    records: Path,
    out_dir: Path,
    chosen: Mapping[str, Task],
    manifest: RecordsManifest,
    progress: bool | Bars,
    resume: bool,
    start: Start | None,
) -> TrainResult:
    """Trains on the replicas of a strategy."""
    if spec.training.deterministic:
        tf.config.experimental.enable_op_determinism()
    workers = Workers(strategy)
    if not resume and workers.is_first:
        (out_dir / RECORD).unlink(missing_ok=True)
    choice = Choice(**workers.from_first(lambda: asdict(_choice(spec, chosen, manifest, out_dir, workers.count))))
    keras.utils.set_random_seed(spec.training.seed)
    tables = embedding_optimizer(spec.training) or dense_optimizer(spec.training)
    check_tables_fit(manifest.inputs, spec.model.embedding_dim, tables)
    with strategy.scope():
        model = _compiled_model(spec, chosen, manifest, choice, start)
    if workers.is_first:
        _tell(progress, choice, estimate_memory(model, spec.training.batch_size, _input_bytes(manifest)))
    if start is not None:
        start.go_on(model)
    training, names = spec.training, list(chosen)

    def epoch_data(at: Position) -> tf.data.Dataset:
        batches = read_records(
            records,
            "train",
            batch_size=training.batch_size,
            shuffle=True,
            seed=training.seed,
            epoch=at.epoch,
            start_batch=at.batch,
            worker=(at.replica, at.replicas),
        )
        return only_labels(batches, names)

    with reading_errors(records):
        fitted = fit_model(
            model,
            epoch_data,
            only_labels(read_records(records, "validation", batch_size=VALIDATION_BATCH), names),
            training,
            out_dir,
            binary=[name for name, task in chosen.items() if isinstance(task, BinaryTask)],
            settings=_settings(spec, names, manifest, start),
            progress=progress,
            resume=resume,
        )
    state = fitted.progress
    return TrainResult(
        state.best_epoch,
        state.history,
        out_dir / MODEL,
        state.seconds,
        parameter_costs(model),
        fitted.continued_from,
        fitted.skipped,
    )


def check_parts(manifest: RecordsManifest, tasks: Sequence[str], records: Path) -> None:
    """Checks that shards can train these tasks, and that validation is not the test part.

    Raises:
        ArtifactError: a task has no labels column, there are no training rows, or the two parts are the same.
    """
    absent = [task for task in tasks if task not in manifest.tasks]
    if absent:
        raise ArtifactError(f"{records} holds no labels of {absent}. {suggest(absent[0], manifest.tasks)}")
    if not manifest.rows("train"):
        raise ArtifactError(f"{records} holds no training rows. Check data.split, then make the shards again.")
    content = {split: sorted(shard.sha256 for shard in shards) for split, shards in manifest.splits.items()}
    if manifest.rows("test") and content.get("validation") == content.get("test"):
        remedy = "What chooses the epoch must not be what is reported on. Check data.split."
        raise ArtifactError(f"{records}: the validation part and the test part must differ; they are equal. {remedy}")


def only_labels(batches: tf.data.Dataset, tasks: Sequence[str]) -> tf.data.Dataset:
    """Batches with the labels of some tasks."""
    if set(batches.element_spec[1]) == set(tasks):
        return batches
    return batches.map(lambda inputs, labels: (inputs, {task: labels[task] for task in tasks}))


def starting_points(tasks: Mapping[str, Task], manifest: RecordsManifest) -> dict[str, float | LabelDistribution]:
    """Where each output starts: the share of positives, or the mean (transformed) label, of the training part.

    A head of durations gets the distribution of the labels, which it is made of.

    Raises:
        DataError: a head needs labels that are not negative, and there are negative ones.
    """
    priors: dict[str, float | LabelDistribution] = {}
    for name, task in tasks.items():
        labels = manifest.labels[name]
        if not labels.labels:
            continue
        if isinstance(task, BinaryTask):
            priors[name] = labels.positives / labels.labels
        elif isinstance(task, RegressionTask) and task.head.kind != "linear":
            priors[name] = _distribution(name, task.head.kind, labels.distribution)
        elif isinstance(task, RegressionTask):
            mean = labels.mean_log1p if task.transform == "log1p" else labels.mean
            if mean is not None:
                priors[name] = mean
    return priors


def _distribution(task: str, head: str, found: LabelDistribution | None) -> LabelDistribution:
    """What was measured of a task's labels, if a head of durations can learn from them."""
    if found is None:
        rule = f"must know how the labels of {task!r} are distributed, because its head is {head!r}"
        raise ArtifactError(f"the shards {rule}; they do not. Make them again with: onehull prepare --force")
    if found.quantiles[0] < 0:
        rule = f"must not have negative labels, because its head is {head!r}"
        remedy = f"Name the value that stands for a missing label in tasks.{task}.missing, or use the head 'linear'."
        raise DataError(f"tasks.{task} {rule}. The smallest is {found.quantiles[0]:g}. {remedy}")
    return found


def _chosen_tasks(spec: Spec, tasks: Sequence[str] | None) -> dict[str, Task]:
    names = list(spec.tasks) if tasks is None else list(tasks)
    unknown = [name for name in names if name not in spec.tasks]
    if unknown or not names:
        raise SpecError(
            [
                Fault(
                    "tasks",
                    "must name tasks of the spec",
                    names,
                    suggest(unknown[0] if unknown else "", list(spec.tasks)),
                )
            ]
        )
    return {name: spec.tasks[name] for name in names}


def _choice(spec: Spec, tasks: Mapping[str, Task], manifest: RecordsManifest, out_dir: Path, workers: int) -> Choice:
    """What the steps of this training calculate in, measured on this machine where the spec leaves it open."""
    training = spec.training
    twin = manifest.model_copy(update={"inputs": tuple(twin_inputs(manifest.inputs, spec.model.embedding_dim))})
    rows = -(-training.batch_size // workers)
    batch = drawn_batch(twin.inputs, tasks, rows)
    return choose(
        candidates(training, bfloat16=has_bfloat16(), xla=bool(gpu_names()) and workers == 1),
        lambda candidate: step_seconds(_compiled_model(spec, tasks, twin, Choice(*candidate, "")), batch),
        shape={
            **spec.section("tasks", "model", "balance"),
            "optimizers": [training.optimizer, training.embedding_optimizer],
            "deterministic": training.deterministic,
            "inputs": [item.model_dump(mode="json") for item in twin.inputs],
            "rows": rows,
        },
        steps=training.epochs * -(-manifest.rows("train") // training.batch_size),
        out_dir=out_dir,
    )


def _input_bytes(manifest: RecordsManifest) -> int:
    """Rows that are kept in memory, or the windows of those that are not."""
    row = 4 * (sum(item.length for item in manifest.inputs) + len(manifest.tasks))
    return min(row * sum(map(manifest.rows, manifest.splits)), MEMORY_LIMIT_BYTES)


def _tell(progress: bool | Bars, choice: Choice, estimate: MemoryEstimate) -> None:
    """Shows what training will take, before it begins; a warning is shown to who wants no progress, too."""
    console = progress.console if isinstance(progress, Bars) else Console(stderr=True, quiet=not progress)
    console.print(choice.text(), highlight=False, soft_wrap=True)
    console.print(estimate.table())
    warning = estimate.warning()
    if warning is not None:
        _LOG.warning("%s", warning)


def _compiled_model(
    spec: Spec, tasks: Mapping[str, Task], manifest: RecordsManifest, choice: Choice, start: Start | None = None
) -> MultiTaskModel:
    priors, precision = starting_points(tasks, manifest), choice.precision
    if start is not None:
        model = start.begin(precision=precision)
    else:
        seed = spec.training.seed
        model = build_model(spec.model, tasks, manifest.inputs, priors=priors, seed=seed, precision=precision)
    coverage = {name: manifest.labels[name].coverage for name in tasks}
    shares = {
        n: p for n, p in priors.items() if isinstance(tasks[n], BinaryTask) and not isinstance(p, LabelDistribution)
    }
    balance = _balance(spec, tasks)
    compile_model(
        model,
        tasks,
        balance,
        spec.training,
        section=spec.model,
        coverage=coverage,
        shares=shares,
        late_shares={name: share for name in tasks if (share := manifest.labels[name].late_share) is not None},
        jit_compile=choice.jit_compile,
    )
    return model


def _balance(spec: Spec, tasks: Mapping[str, Task]) -> Balance:
    """The spec's balancing; a task alone has weight 1, whatever it weighs among others."""
    return StaticBalance(normalizer=spec.balance.normalizer) if len(tasks) == 1 else spec.balance


_FREE = ("epochs", "patience", "tensorboard", "checkpoint_minutes")
"""Fields of the training section on which no epoch depends: with others, the same training continues."""


def _settings(spec: Spec, tasks: Sequence[str], manifest: RecordsManifest, start: Start | None) -> dict[str, Any]:
    """What an epoch depends on."""
    sections = spec.section("tasks", "model", "balance", "training")
    for name in _FREE:
        sections["training"].pop(name)
    shards = {split: [shard.sha256 for shard in shards] for split, shards in manifest.splits.items()}
    digests = {split: hashlib.sha256(json.dumps(part).encode()).hexdigest()[:16] for split, part in shards.items()}
    return {**sections, "trained": list(tasks), "shards": digests, "begins with": start and start.digest}
