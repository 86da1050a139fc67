"""Whether bfloat16 costs quality: a problem that can be learned, trained in both precisions with the same seeds.

Shapes: ``N`` rows, ``F`` categorical features, ``D`` numbers, ``T`` tasks.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.feed_model import Precision, trained_feed_model
from benchmarks.peers.task import BATCH, FEATURES, NUMBERS, ZIPF
from onehull.metrics import auc
from onehull.train.steps import Steps

ROWS, TASKS = 500, 3
TRAINED, HELD_OUT = 40, 16
"""Batches."""


def precision_auc(seeds: int, epochs: int) -> dict[str, Any]:
    """Mean AUC of the tasks on rows that were not trained on, for each precision.

    Args:
        seeds: of data and of initial values, from 0; both precisions have the same.
        epochs: over the training batches.

    Returns:
        ``float32`` and ``bfloat16``, a value for each seed; ``difference``, the mean of bfloat16 − float32;
        ``noise``, its standard error over the seeds.
    """
    found: dict[str, Any] = {"float32": [], "bfloat16": []}
    for seed in range(seeds):
        x, labels_NT = learnable(seed)
        for precision in ("float32", "bfloat16"):
            found[precision].append(round(_trained_auc(x, labels_NT, seed, precision, epochs), 5))
    differences = [low - high for low, high in zip(found["bfloat16"], found["float32"], strict=True)]
    found["difference"] = round(statistics.mean(differences), 5)
    found["noise"] = round(statistics.stdev(differences) / math.sqrt(seeds), 5) if seeds > 1 else None
    return found


def learnable(seed: int) -> tuple[dict[str, np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """Simulated rows whose labels follow from the ids and the numbers, up to chance; inputs and labels ``(N, T)``."""
    generator = np.random.default_rng(seed)
    rows = (TRAINED + HELD_OUT) * BATCH
    ids_NF = np.minimum(generator.zipf(ZIPF, (rows, FEATURES)), ROWS) - 1
    numbers_ND = generator.normal(size=(rows, NUMBERS)).astype(np.float32)
    effects_FRT = generator.normal(scale=0.35, size=(FEATURES, ROWS, TASKS))
    weights_DT = generator.normal(scale=0.2, size=(NUMBERS, TASKS))
    logits_NT = numbers_ND @ weights_DT
    for feature in range(FEATURES):
        logits_NT += effects_FRT[feature, ids_NF[:, feature]]
    logits_NT -= logits_NT.mean(axis=0) + 1.0
    labels_NT = (generator.random(logits_NT.shape) < 1 / (1 + np.exp(-logits_NT))).astype(np.float32)
    x: dict[str, Any] = {f"id_{index}": ids_NF[:, index].astype(np.int32) for index in range(FEATURES)}
    return {**x, "numbers": numbers_ND}, labels_NT


def _trained_auc(x: Any, labels_NT: np.ndarray[Any, Any], seed: int, precision: Precision, epochs: int) -> float:
    model = trained_feed_model(TASKS, ROWS, seed=seed, precision=precision)
    y = {name: labels_NT[:, index : index + 1] for index, name in enumerate(model.task_names)}
    cut, batches = TRAINED * BATCH, tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    train = Steps(model)
    train(train.iterate(lambda *_: batches.take(TRAINED).cache().repeat(epochs)), epochs * TRAINED)
    predictions = model.predict({name: values[cut:] for name, values in x.items()}, batch_size=BATCH, verbose=0)
    values = [auc(y[name][cut:, 0], np.asarray(predictions[name])[:, 0]) for name in model.task_names]
    return statistics.mean(value for value in values if value is not None)
