"""Turns the spec's sections into a compiled model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from onehull.balance import build_balancer, task_weights
from onehull.model.backend import require_tensorflow
from onehull.model.heads import BinaryHead, MulticlassHead, RegressionHead
from onehull.model.losses import Log1pLoss
from onehull.model.multi_task_model import MultiTaskModel
from onehull.model.names import LayerNames
from onehull.model.shared_bottom import shared_bottom
from onehull.spec.balance import Balance
from onehull.spec.inputs import ModelInput
from onehull.spec.model import Model
from onehull.spec.tasks import BinaryTask, MulticlassTask, RegressionTask, Task
from onehull.spec.training import Training

Architecture = Callable[..., dict[str, Any]]
"""(symbolic inputs, encoded inputs, tower widths by task, names, *, fields of the spec, seed) → representations."""

ARCHITECTURES: dict[str, Architecture] = {"shared_bottom": shared_bottom}
"""Every architecture by its name in a spec."""


def build_model(
    section: Model,
    tasks: Mapping[str, Task],
    inputs: Sequence[ModelInput],
    *,
    priors: Mapping[str, float] | None = None,
    seed: int = 0,
) -> MultiTaskModel:
    """Builds the model of a spec; its outputs are named by the tasks, ``(B, 1)`` or ``(B, classes)``.

    A task that is observed only where another one is positive (`observed_when`) needs nothing here: assembly gives
    rows outside its space no label, so its loss and metrics live on the space.

    Args:
        section: the architecture.
        tasks: what to predict.
        inputs: the encoded inputs.
        priors: where each task's output starts: the share of positive labels of a binary task, the mean label of a
            regression (mean of log(1 + y) under ``log1p``).
        seed: seed of all initial values; together with the layers' names, so that the order of tasks is irrelevant.
    """
    require_tensorflow()
    priors = priors or {}
    symbolic = {item.name: keras.Input(item.shape, dtype=item.dtype, name=item.name) for item in inputs}
    names = LayerNames([*symbolic, *tasks])
    towers = {name: section.tower if task.tower is None else task.tower for name, task in tasks.items()}
    fields = section.model_dump(exclude={"kind", "tower"})
    hidden = ARCHITECTURES[section.kind](symbolic, inputs, towers, names, **fields, seed=seed)
    outputs = {name: head(name, task, priors.get(name), seed)(hidden[name]) for name, task in tasks.items()}
    return MultiTaskModel(inputs=symbolic, outputs=outputs, name=section.kind)


def compile_model(
    model: MultiTaskModel,
    tasks: Mapping[str, Task],
    balance: Balance,
    training: Training,
    *,
    coverage: Mapping[str, float] | None = None,
    steps_per_execution: int = 1,
) -> None:
    """Compiles a model with the losses, the balancing and the optimizer of a spec.

    Args:
        model: a model with an output for each task.
        tasks: what is predicted.
        balance: how tasks are weighed.
        training: optimizer, learning rate, clipping.
        coverage: share of labelled rows of each task in training, where it is known.
        steps_per_execution: steps between two calls of callbacks.
    """
    model.compile(
        optimizer=optimizer(training),
        loss={name: loss(task) for name, task in tasks.items()},
        loss_weights=task_weights(balance, list(tasks)),
        balancer=build_balancer(balance, list(tasks)),
        normalizer=balance.normalizer,
        coverage=coverage,
        steps_per_execution=steps_per_execution,
        jit_compile=False,  # measured on CPU: slower, and every new batch size compiles again
    )


def head(name: str, task: Task, prior: float | None, seed: int) -> keras.layers.Layer:
    """The output layer of a task."""
    match task:
        case BinaryTask():
            return BinaryHead(prior, seed, name=name)
        case RegressionTask():
            return RegressionHead(task.transform, prior, seed, name=name)
        case MulticlassTask():
            return MulticlassHead(task.classes, seed, name=name)


def loss(task: Task) -> Any:
    """The loss of a task, on the scale of its predictions."""
    match task:
        case BinaryTask():
            return "binary_crossentropy"
        case RegressionTask(transform="log1p"):
            return Log1pLoss(task.loss, task.huber_delta)
        case RegressionTask(loss="huber"):
            return keras.losses.Huber(delta=task.huber_delta)
        case RegressionTask():
            return "mse"
        case MulticlassTask():
            return "sparse_categorical_crossentropy"


def optimizer(training: Training) -> keras.optimizers.Optimizer:
    """The optimizer of a spec."""
    kinds = {
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "adagrad": keras.optimizers.Adagrad,
        "sgd": keras.optimizers.SGD,
    }
    return kinds[training.optimizer](learning_rate=training.learning_rate, global_clipnorm=training.clip_norm)
