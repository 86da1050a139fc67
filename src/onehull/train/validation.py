"""What is measured on validation after each epoch, and what it says about the epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from onehull.metrics import auc
from onehull.model import MultiTaskModel
from onehull.train.predict import Predictions, as_columns, concatenated

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
        self._step = _measuring_function(model)
        parts = [labels for _, labels in dataset]
        self.rows = sum(len(next(iter(part.values()))) for part in parts)
        self._labels = {task: np.concatenate([part[task] for part in parts]) for task in parts[0]} if parts else {}

    def measure(self, stop: Callable[[], bool] = lambda: False) -> Measures | None:
        """``val_loss`` (weighted sum), ``val_TASK_loss`` (mean over labelled rows), ``val_TASK_auc`` (exact).

        Args:
            stop: asked before each batch; where it says so, nothing is measured.

        Returns:
            The measures, or None where it was stopped.
        """
        if not self.rows:
            return {}
        parts = [self._step(*batch) for batch in self._dataset if not stop()]
        if stop():
            return None
        predictions, losses = self._joined(parts)
        weights = self._model.task_weights
        total = sum(weights[task] * value for task, value in losses.items() if value is not None)
        measures: Measures = {"val_loss": total, **{f"val_{task}_loss": value for task, value in losses.items()}}
        for task in self._binary:
            measures[f"val_{task}_auc"] = auc(self._labels[task], predictions[task])
        return measures

    def _joined(self, parts: Sequence[Any]) -> tuple[Predictions, dict[str, float | None]]:
        """Predictions, and the mean loss of each task over its labelled rows."""
        predictions = concatenated([outputs for outputs, _, _ in parts])
        sums_2T = np.stack([np.stack(part[1:]) for part in parts]).sum(axis=0, dtype=np.float64)
        means = {
            task: float(total / labels) if labels else None
            for task, total, labels in zip(self._model.task_weights, sums_2T[0], sums_2T[1], strict=True)
        }
        return predictions, means


def epoch_score(measures: Mapping[str, float | None], select_by: Literal["auc", "loss"]) -> float | None:
    """How good an epoch is; larger is better, None where validation says nothing.

    By ``auc`` it is the mean of the AUCs that are defined; where there is none, and by ``loss``, the negative loss.
    """
    areas = [value for name, value in measures.items() if name.endswith("_auc") and value is not None]
    if select_by == "auc" and areas:
        return float(np.mean(areas))
    loss = measures.get("val_loss")
    return None if loss is None else -loss


def _measuring_function(
    model: MultiTaskModel,
) -> Callable[[Any, Any], tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]]:
    """A compiled function of a batch: predictions, and the sums and counts of `MultiTaskModel.loss_totals`."""

    @tf.function(reduce_retracing=True, autograph=False)
    def step(inputs: Any, labels: Any) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        outputs = model(inputs, training=False)
        totals_T, labels_T = model.loss_totals(labels, outputs)
        return as_columns(outputs), totals_T, labels_T

    return step
