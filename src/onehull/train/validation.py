"""What is measured on validation after each epoch, and what it says about the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from onehull.metrics import auc
from onehull.model import MultiTaskModel
from onehull.train.predict import predict_with, prediction_function

Measures = dict[str, float | None]
"""Named numbers; None where a number is not defined, such as the AUC of one class."""


class Validation:
    """Measures a model on the same rows after each epoch.

    Args:
        model: a compiled model.
        dataset: batches of ``(inputs, labels)``, always in the same order.
        binary: the tasks that have an AUC.
    """

    def __init__(self, model: MultiTaskModel, dataset: tf.data.Dataset, binary: Sequence[str]) -> None:
        self._model, self._dataset, self._binary = model, dataset, tuple(binary)
        self._predict = prediction_function(model)
        parts = [labels for _, labels in dataset]
        self.rows = sum(len(next(iter(part.values()))) for part in parts)
        self._labels = {task: np.concatenate([part[task] for part in parts]) for task in parts[0]} if parts else {}

    def measure(self) -> Measures:
        """``val_loss`` (weighted sum), ``val_TASK_loss`` (mean over labelled rows), ``val_TASK_auc`` (exact)."""
        if not self.rows:
            return {}
        predictions = predict_with(self._predict, self._dataset)
        columns = {task: values[:, None] if values.ndim == 1 else values for task, values in predictions.items()}
        losses = self._model.mean_losses(self._labels, columns)
        weights = self._model.task_weights
        total = sum(weights[task] * value for task, value in losses.items() if value is not None)
        measures: Measures = {"val_loss": total, **{f"val_{task}_loss": value for task, value in losses.items()}}
        for task in self._binary:
            measures[f"val_{task}_auc"] = auc(self._labels[task], predictions[task])
        return measures


def epoch_score(measures: Mapping[str, float | None], select_by: Literal["auc", "loss"]) -> float | None:
    """How good an epoch is; larger is better, None where validation says nothing.

    By ``auc`` it is the mean of the AUCs that are defined; where there is none, and by ``loss``, the negative loss.
    """
    areas = [value for name, value in measures.items() if name.endswith("_auc") and value is not None]
    if select_by == "auc" and areas:
        return float(np.mean(areas))
    loss = measures.get("val_loss")
    return None if loss is None else -loss
