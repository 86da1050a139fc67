"""Turns the spec's sections into a compiled model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import keras

from onehull.balance import build_balancer, task_weights
from onehull.model.adatt import adatt
from onehull.model.aitm import aitm
from onehull.model.backend import require_tensorflow
from onehull.model.bricks import Bricks, GateOn, Graph
from onehull.model.cgc import cgc
from onehull.model.cross_stitch import cross_stitch
from onehull.model.duration import duration_head, duration_loss
from onehull.model.entire_space import EntireSpaceLoss
from onehull.model.esmm import esmm
from onehull.model.heads import BinaryHead, MulticlassHead, RegressionHead
from onehull.model.home import home
from onehull.model.imputation import WithImputation
from onehull.model.joint_loss import JointLoss
from onehull.model.late_labels import LateCrossentropy
from onehull.model.losses import Log1pLoss
from onehull.model.mmoe import mmoe
from onehull.model.multi_task_model import MultiTaskModel
from onehull.model.names import LayerNames
from onehull.model.ple import ple
from onehull.model.shared_bottom import shared_bottom
from onehull.model.stem import stem
from onehull.optimizers.build import dense_optimizer, embedding_optimizer
from onehull.spec.balance import Balance
from onehull.spec.heads import Linear
from onehull.spec.inputs import ModelInput
from onehull.spec.labels import LabelDistribution
from onehull.spec.late import Late
from onehull.spec.model import Architecture as Common
from onehull.spec.model import Model
from onehull.spec.tasks import BinaryTask, MulticlassTask, RegressionTask, Task
from onehull.spec.training import Training

Architecture = Callable[..., Graph]
"""(bricks, *, fields of the spec that are the kind's own) → representation of each task."""

_BRICKS = {
    "embedding_dim", "embedding_stddev", "embedding_l2", "activation", "dropout", "tower_dropout", "batch_norm", "l2",
}  # fmt: skip
"""The common fields that the makers of layers take."""

ARCHITECTURES: dict[str, Architecture] = {
    "shared_bottom": shared_bottom,
    "mmoe": mmoe,
    "cgc": cgc,
    "ple": ple,
    "adatt": adatt,
    "cross_stitch": cross_stitch,
    "stem": stem,
    "home": home,
    "esmm": esmm,
    "aitm": aitm,
}
"""Every architecture by its name in a spec."""


def build_model(
    section: Model,
    tasks: Mapping[str, Task],
    inputs: Sequence[ModelInput],
    *,
    priors: Mapping[str, float | LabelDistribution] | None = None,
    seed: int = 0,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> MultiTaskModel:
    """Builds the model of a spec; its outputs are named by the tasks, ``(B, 1)`` or ``(B, classes)``.

    A task that is observed only where another one is positive (`observed_when`) needs nothing here, unless
    `entire_space` is ``dr``: assembly gives rows outside its space no label, so its loss and metrics live on the space.

    Args:
        section: the architecture.
        tasks: what to predict.
        inputs: the encoded inputs.
        priors: where each task's output starts: the share of positive labels of a binary task, the mean label of a
            regression (mean of log(1 + y) under ``log1p``), the distribution of the labels where the task's `head` is
            not linear.
        seed: seed of all initial values; together with the layers' names, so that the order of tasks is irrelevant.
        precision: what the layers calculate in; weights, tables, predictions and losses are float32.
    """
    require_tensorflow()
    with _precision(precision):
        return _build(section, tasks, inputs, priors or {}, seed)


@contextmanager
def _precision(precision: str) -> Iterator[None]:
    """Layers that are made in it calculate in this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(before if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _build(
    section: Model,
    tasks: Mapping[str, Task],
    inputs: Sequence[ModelInput],
    priors: Mapping[str, float | LabelDistribution],
    seed: int,
) -> MultiTaskModel:
    symbolic = {item.name: keras.Input(item.shape, dtype=item.dtype, name=item.name) for item in inputs}
    names = LayerNames([*symbolic, *tasks])
    towers = {name: section.tower if task.tower is None else task.tower for name, task in tasks.items()}
    binary = frozenset(name for name, task in tasks.items() if isinstance(task, BinaryTask))
    spaces = {name: task.observed_when for name, task in tasks.items()}
    fields = {**section.model_dump(include=_BRICKS), **_gates(section)}
    bricks = Bricks(symbolic, inputs, towers, binary, names, seed, spaces=spaces, **fields)
    graph = ARCHITECTURES[section.kind](bricks, **_own_fields(section))
    outputs = {
        name: predicted(name, task, priors.get(name), graph.hidden[name], symbolic, seed)
        for name, task in tasks.items()
    }
    for name in tasks:
        if section.entire_space == "dr" and ancestors(name, tasks):
            imputation = WithImputation(seed, name=names.free(f"imputation_{name}"))
            outputs[name] = imputation([outputs[name], graph.hidden[name]])
    return MultiTaskModel(inputs=symbolic, outputs=graph.relate(outputs), name=section.kind)


def _gates(section: Model) -> dict[str, GateOn | None]:
    wanted = {"epnet": section.epnet, "ppnet": section.ppnet}
    return {name: None if gate is None else GateOn(gate.features, gate.hidden) for name, gate in wanted.items()}


def _own_fields(section: Model) -> dict[str, Any]:
    """The fields of a kind that not every kind has."""
    return section.model_dump(exclude={"kind", *Common.model_fields})


def compile_model(
    model: MultiTaskModel,
    tasks: Mapping[str, Task],
    balance: Balance,
    training: Training,
    *,
    section: Model | None = None,
    coverage: Mapping[str, float] | None = None,
    shares: Mapping[str, float] | None = None,
    late_shares: Mapping[str, float] | None = None,
    steps_per_execution: int = 1,
    jit_compile: bool = False,
) -> None:
    """Compiles a model with the losses, the balancing and the optimizer of a spec.

    Args:
        model: a model with an output for each task.
        tasks: what is predicted.
        balance: how tasks are weighed.
        training: optimizer, learning rate, clipping.
        section: the architecture that the model was built from, whose `entire_space` says which losses see all rows.
            Default: none does.
        coverage: share of labelled rows of each task in training, where it is known. A loss that sees other rows than
            the labelled ones follows its own share.
        shares: share of positive labels of the binary tasks in training, for ``balance.reference: prior``.
        late_shares: of tasks whose labels come late, the share of positives that did.
        steps_per_execution: steps between two calls of callbacks, for Keras' own `fit`.
        jit_compile: whether XLA compiles the step; on CPUs it is usually slower, and compiles each batch size.
    """
    late = late_shares or {}
    losses = {name: space_loss(name, tasks, section) or loss(task, late.get(name)) for name, task in tasks.items()}
    if coverage is not None:
        coverage = {name: share for name, share in coverage.items() if not isinstance(losses[name], JointLoss)}
    model.compile(
        optimizer=dense_optimizer(training),
        embedding_optimizer=embedding_optimizer(training),
        clip_norm=training.clip_norm,
        loss=losses,
        loss_weights=task_weights(balance, list(tasks), shares),
        balancer=build_balancer(balance, list(tasks)),
        **balance.model_dump(include={"level", "sample", "tables"}),
        non_finite="skip" if training.non_finite == "skip" else "stop",
        normalizer=balance.normalizer,
        coverage=coverage,
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )


def predicted(
    name: str,
    task: Task,
    prior: float | LabelDistribution | None,
    hidden: Any,
    symbolic: Mapping[str, Any],
    seed: int,
) -> Any:
    """The prediction of a task from its representation, by a head that is named after the task.

    Raises:
        ValueError: a head of durations lacks the distribution of the training labels.
    """
    labels, start = (prior, None) if isinstance(prior, LabelDistribution) else (None, prior)
    if isinstance(task, RegressionTask) and not isinstance(task.head, Linear):
        return duration_head(task.head, labels, hidden, symbolic, name=name, seed=seed)
    return head(name, task, start, seed)(hidden)


def head(name: str, task: Task, prior: float | None, seed: int) -> keras.layers.Layer:
    """The output layer of a task."""
    match task:
        case BinaryTask():
            return BinaryHead(prior, seed, name=name)
        case RegressionTask():
            return RegressionHead(task.transform, prior, seed, name=name)
        case MulticlassTask():
            return MulticlassHead(task.classes, seed, name=name)


def loss(task: Task, late_share: float | None = None) -> Any:
    """The loss of a task, on the scale of its predictions.

    Args:
        task: the task.
        late_share: of a task whose labels come late, the share of positives that did; None where the samples have
            final labels, as those of a log that was joined at once.
    """
    match task:
        case BinaryTask():
            return _binary_loss(task.late, late_share)
        case RegressionTask() if not isinstance(task.head, Linear):
            return duration_loss(task.head)
        case RegressionTask(transform="log1p"):
            return Log1pLoss(task.loss, task.huber_delta)
        case RegressionTask(loss="huber"):
            return keras.losses.Huber(delta=task.huber_delta)
        case RegressionTask():
            return "mse"
        case MulticlassTask():
            return "sparse_categorical_crossentropy"


def _binary_loss(late: Late | None, late_share: float | None) -> Any:
    if late is None or late_share is None:
        return "binary_crossentropy"
    return LateCrossentropy(late.kind, late_share)


def space_loss(name: str, tasks: Mapping[str, Task], section: Model | None) -> EntireSpaceLoss | None:
    """The loss of a task over the rows outside its space, too; None where the spec asks for none."""
    above = ancestors(name, tasks)
    if section is None or section.entire_space == "none" or not above:
        return None
    return EntireSpaceLoss(
        above,
        section.entire_space,
        global_weight=section.global_weight,
        propensity_floor=section.propensity_floor,
    )


def ancestors(name: str, tasks: Mapping[str, Task]) -> tuple[str, ...]:
    """The tasks that must be 1 for a binary task to have a label, the first step first; none for other tasks.

    The chain ends at a task that is not in the model: a task that is trained alone has only its own space.
    """
    chain: list[str] = []
    parent = tasks[name].observed_when if isinstance(tasks[name], BinaryTask) else None
    while parent is not None and isinstance(tasks.get(parent), BinaryTask):
        chain.insert(0, parent)
        parent = tasks[parent].observed_when
    return tuple(chain)
