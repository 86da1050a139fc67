"""Compiled metrics, each over the rows that have a label of its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from onehull.model.labels import read_labels, row_weights
from onehull.model.row_loss import CROSSENTROPY, crossentropy_by_shape

_ACCURACY = ("acc", "accuracy")


class TaskMetrics(keras.metrics.Metric):
    """All compiled metrics of a model as one metric whose result is a dict.

    Args:
        metrics: what `compile` accepts for each task: an identifier or a list of them.
        weighted: metrics that also take the sample weights.
        missing: value of each task that stands for a missing label; None for NaN only.
        prefixed: whether names begin with the task, as Keras names metrics of several outputs.
    """

    def __init__(
        self,
        metrics: Mapping[str, Any],
        weighted: Mapping[str, Any],
        missing: Mapping[str, float | None],
        *,
        prefixed: bool,
    ) -> None:
        super().__init__(name="task_metrics")
        self._missing = dict(missing)
        self._prefixed = prefixed
        self._entries = tuple(
            _Entry(task, identifier, is_weighted)
            for group, is_weighted in ((metrics, False), (weighted, True))
            for task, wanted in group.items()
            for identifier in (wanted if isinstance(wanted, (list, tuple)) else [wanted])
            if identifier is not None
        )

    @property
    def variables(self) -> list[Any]:
        """Variables of all metrics."""
        return [variable for entry in self._entries if entry.metric for variable in entry.metric.variables]

    def update_state(
        self, labels: Mapping[str, Any], predictions: Mapping[str, Any], sample_weight: Mapping[str, Any]
    ) -> None:
        """Adds a batch; rows without a label have weight 0.

        Args:
            labels: labels of each task.
            predictions: outputs of each task.
            sample_weight: row weights of each task, or None.
        """
        for entry in self._entries:
            output = predictions[entry.task]
            read = read_labels(labels[entry.task], output, self._missing.get(entry.task))
            weight = sample_weight.get(entry.task) if entry.weighted else None
            metric = entry.resolve(read.values, output)
            metric.update_state(read.values, output, sample_weight=row_weights(weight, read.present_B))

    def result(self) -> dict[str, Any]:
        """Value of every metric by its name in the history."""
        results: dict[str, Any] = {}
        for entry in self._entries:
            if entry.metric is None:
                continue
            base = f"{entry.task}_{entry.name}" if self._prefixed else entry.name
            name, count = base, 0
            while name in results:
                count += 1
                name = f"{base}_{count}"
            results[name] = entry.metric.result()
        return results

    def reset_state(self) -> None:
        """Forgets all batches."""
        for entry in self._entries:
            if entry.metric is not None:
                entry.metric.reset_state()


class _Entry:
    """One metric of one task; ``accuracy`` and ``crossentropy`` wait for the shapes of the first batch."""

    def __init__(self, task: str, identifier: Any, weighted: bool) -> None:
        self.task, self.weighted = task, weighted
        self._identifier = identifier
        self._waits = isinstance(identifier, str) and identifier.lower() in (*_ACCURACY, *CROSSENTROPY)
        self.metric: Any = None if self._waits else _as_metric(identifier)

    @property
    def name(self) -> str:
        return self._identifier if isinstance(self._identifier, str) else str(self.metric.name)

    def resolve(self, labels: tf.Tensor, predictions: tf.Tensor) -> Any:
        if self.metric is None:
            with tf.init_scope():  # the first batch may be seen inside a graph
                self.metric = _from_shapes(self._identifier.lower(), labels, predictions)
        return self.metric


def _as_metric(identifier: Any) -> Any:
    metric = keras.metrics.get(identifier)
    if isinstance(metric, keras.metrics.Metric):
        return metric
    return keras.metrics.MeanMetricWrapper(metric, name=getattr(metric, "__name__", None))


def _from_shapes(identifier: str, labels: tf.Tensor, predictions: tf.Tensor) -> Any:
    if identifier in CROSSENTROPY:
        return _as_metric(crossentropy_by_shape(labels, predictions))
    if predictions.shape[-1] == 1:
        return keras.metrics.BinaryAccuracy()
    if labels.shape.rank < predictions.shape.rank or labels.shape[-1] == 1:
        return keras.metrics.SparseCategoricalAccuracy()
    return keras.metrics.CategoricalAccuracy()
