"""Turns the spec's section into optimizers."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from onehull.optimizers.embedding_optimizer import EmbeddingOptimizer
from onehull.optimizers.registry import EMBEDDING_OPTIMIZERS
from onehull.optimizers.warmup_decay import WarmupDecay
from onehull.spec.training import Schedule, Training

DENSE_OPTIMIZERS: dict[str, type[keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "adagrad": keras.optimizers.Adagrad,
    "sgd": keras.optimizers.SGD,
}
"""Keras' optimizers by their names in a spec."""


def dense_optimizer(training: Training) -> keras.optimizers.Optimizer:
    """The optimizer of the dense weights.

    ``clip_norm`` is not in it: the norm of all gradients is that of both optimizers' gradients together.
    """
    rate = _rate(training.learning_rate, training.schedule)
    if training.average is None:
        return DENSE_OPTIMIZERS[training.optimizer](learning_rate=rate)
    return DENSE_OPTIMIZERS[training.optimizer](learning_rate=rate, use_ema=True, ema_momentum=training.average)


def embedding_optimizer(training: Training) -> EmbeddingOptimizer | None:
    """The optimizer of the embedding tables; None where that of the dense weights moves them too."""
    if training.embedding_optimizer == "same":
        return None
    method = EMBEDDING_OPTIMIZERS[training.embedding_optimizer]
    rate = training.embedding_learning_rate
    if rate is None:
        rate = inspect.signature(method).parameters["learning_rate"].default
    return method(learning_rate=_rate(rate, training.schedule))


def _rate(rate: float, schedule: Schedule) -> Any:
    """The learning rate under a schedule; a plain number where nothing changes it, which callbacks can set."""
    if schedule.kind == "constant" and not schedule.warmup_steps:
        return rate
    return WarmupDecay(rate, schedule.kind, schedule.warmup_steps, schedule.decay_steps or 1, schedule.end)
