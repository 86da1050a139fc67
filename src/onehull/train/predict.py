"""Predictions of a whole dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Predictions = dict[str, np.ndarray]
"""``(N,)`` of a binary task or a regression, ``(N, classes)`` of a multi-class task."""


def predict(model: keras.Model, dataset: tf.data.Dataset) -> Predictions:
    """Predictions in the order of a dataset.

    Args:
        model: a model with one output a task, ``(B, 1)`` or ``(B, classes)``.
        dataset: batches of inputs, or of ``(inputs, labels)``.
    """
    return predict_with(prediction_function(model), dataset)


def prediction_function(model: keras.Model) -> Callable[[Any], dict[str, tf.Tensor]]:
    """A compiled function of a batch of inputs, traced once; keep it to predict more than once."""

    @tf.function(reduce_retracing=True, autograph=False)
    def run(inputs: Any) -> dict[str, tf.Tensor]:
        return as_columns(model(inputs, training=False))

    return run


def as_columns(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Outputs with ``(B,)`` in place of ``(B, 1)``."""
    return {task: tf.squeeze(value, -1) if value.shape[-1] == 1 else value for task, value in outputs.items()}


def predict_with(function: Callable[[Any], dict[str, tf.Tensor]], dataset: tf.data.Dataset) -> Predictions:
    """Predictions of a function from `prediction_function`."""
    return concatenated([function(batch[0] if isinstance(batch, tuple) else batch) for batch in dataset])


def concatenated(parts: Sequence[dict[str, tf.Tensor]]) -> Predictions:
    """Predictions of batches as arrays over all rows; nothing where there was no batch."""
    if not parts:
        return {}
    return {task: np.concatenate([part[task].numpy() for part in parts]) for task in parts[0]}
