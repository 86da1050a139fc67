"""The losses of all tasks over the rows that have labels.

Shapes: ``B`` batch, ``T`` tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from onehull.model.coverage import Coverage
from onehull.model.joint_loss import JointLoss, RowLosses
from onehull.model.labels import Labels, read_labels, row_weights
from onehull.model.normalizer import denominator, from_reduction
from onehull.model.replicas import replicas, state_variable, summed
from onehull.model.row_loss import RowLoss


class TaskLosses(NamedTuple):
    """Losses of one batch.

    Attributes:
        by_task: one scalar a task, normalised and multiplied by the static weights; exactly 0, with zero gradient,
            without labels. With several replicas, this one's share: the sum over all is the loss. Differentiate
            these: the gradient of one element of `stacked` would run backwards through the layers of all tasks, with
            zeros.
        active_T: bool, tasks with at least one label in the batch.
    """

    by_task: tuple[tf.Tensor, ...]
    active_T: tf.Tensor

    def stacked(self) -> tf.Tensor:
        """All of them, ``(T,)``."""
        return tf.stack(self.by_task)


class Objective:
    """One masked loss a task.

    Args:
        losses: the loss of each task, in the order of the tasks.
        weights: static weight of each task.
        missing: value of each task that stands for a missing label; None for NaN only.
        normalizer: what a summed loss is divided by, see `onehull.model.normalizer`.
        coverage: known shares of labelled rows.
        skip_non_finite: whether batches whose loss is not finite are left out, of the trackers too.
    """

    def __init__(
        self,
        losses: Mapping[str, Any],
        weights: Mapping[str, float],
        missing: Mapping[str, float | None],
        normalizer: str,
        coverage: Mapping[str, float] | None,
        *,
        skip_non_finite: bool = False,
    ) -> None:
        self.tasks: tuple[str, ...] = tuple(losses)
        self.weights = {task: float(weights.get(task, 1.0)) for task in self.tasks}
        self.missing = dict(missing)
        self.coverage = Coverage(self.tasks, coverage)
        self._losses = {
            task: loss if isinstance(loss, JointLoss) else RowLoss(task, loss) for task, loss in losses.items()
        }
        self._normalizers = {
            task: from_reduction(loss.reduction, normalizer) if isinstance(loss, RowLoss) else normalizer
            for task, loss in self._losses.items()
        }
        self.trackers = {task: keras.metrics.Mean(name=f"{task}_loss") for task in self.tasks}
        """Mean loss over labelled rows since the last reset, not weighted by the task's weight."""
        self._skip = skip_non_finite
        self._not_finite_T = state_variable(tf.zeros(len(self.tasks), tf.int32), "not_finite")
        self._first_T = state_variable(tf.fill((len(self.tasks),), tf.constant(-1, tf.int64)), "first_not_finite")
        self._batches = state_variable(tf.zeros((), tf.int64), "batches_seen")

    def __call__(
        self,
        labels: Mapping[str, Any],
        predictions: Mapping[str, tf.Tensor],
        sample_weight: Mapping[str, Any],
        *,
        training: bool,
        track: bool = True,
    ) -> TaskLosses:
        """Computes the losses of a batch, and adds them to the trackers.

        Args:
            labels: labels of each task, see `read_labels`.
            predictions: outputs of each task.
            sample_weight: row weights of each task, or None.
            training: whether the moving coverage takes the batch in.
            track: False for a second look at rows that are looked at anyway: nothing is moved.
        """
        sums = self._sums(labels, predictions, sample_weight)
        # What a loss is divided by belongs to the whole batch: a mean of the replicas' means is another number where
        # one of them has more labels than another.
        whole = _over_replicas(sums) if training else sums
        labels_T, rows = tf.stack([part.labels for part in whole]), whole[0].rows
        share_T = self.coverage.share(labels_T, rows, training=training and track)
        losses = []
        for index, (task, part) in enumerate(zip(self.tasks, sums, strict=True)):
            below = denominator(
                self._normalizers[task],
                rows=rows,
                labels=whole[index].labels,
                weights=whole[index].weights,
                share=share_T[index],
            )
            losses.append(self.weights[task] * part.total / tf.where(below > 0, below, 1.0))
        if track:
            self._track(sums, tf.stack(losses), training=training)
        return TaskLosses(tuple(losses), labels_T > 0)

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """What a checkpoint has to hold."""
        own = {"not_finite": self._not_finite_T, "first_not_finite": self._first_T, "batches_seen": self._batches}
        return {**self.coverage.variables, **own}

    @property
    def not_finite(self) -> dict[str, int]:
        """Steps at which a task's loss was not finite, of the tasks that had one; without skipping, the first step."""
        return {t: int(n) for t, n in zip(self.tasks, self._not_finite_T.numpy(), strict=True) if n}

    @property
    def first_not_finite(self) -> dict[str, int]:
        """Batches of training before the first one at which a task's loss was not finite, of the tasks that had one."""
        return {t: int(n) for t, n in zip(self.tasks, self._first_T.numpy(), strict=True) if n >= 0}

    @property
    def batches_seen(self) -> int:
        """Batches of training so far."""
        return int(self._batches.numpy())

    def _track(self, sums: Sequence[_Sums], losses_T: tf.Tensor, *, training: bool) -> None:
        """Adds a batch to the means, and notes losses that are not finite."""
        finite_T = tf.math.is_finite(losses_T)
        for index, (task, part) in enumerate(zip(self.tasks, sums, strict=True)):
            counts = tf.where(finite_T[index], part.labels, 0.0) if self._skip else part.labels
            total = tf.where(finite_T[index], part.total, 0.0) if self._skip else part.total
            self.trackers[task].update_state(_quotient(total, counts), sample_weight=counts)
        if training:
            # Without skipping, the weights are not finite one step later, and with them all losses: only the first
            # step names the cause.
            earlier_T = self._not_finite_T.value()
            closed = tf.constant(not self._skip) & tf.reduce_any(earlier_T > 0)
            found_T = tf.minimum(summed(tf.cast(~finite_T, tf.int32)), 1)
            self._not_finite_T.assign(tf.where(closed, earlier_T, earlier_T + found_T))
            batches, is_first_T = self._batches.value(), (earlier_T == 0) & (found_T > 0) & ~closed
            self._first_T.assign(tf.where(is_first_T, batches, self._first_T.value()))
            self._batches.assign(batches + 1)

    def totals(self, labels: Mapping[str, Any], predictions: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum of each task's losses over the labelled rows of a batch, and their number, ``(T,)`` each; no weights."""
        sums = self._sums(labels, predictions, {})
        return tf.stack([part.total for part in sums]), tf.stack([part.labels for part in sums])

    def _sums(
        self, labels: Mapping[str, Any], predictions: Mapping[str, tf.Tensor], sample_weight: Mapping[str, Any]
    ) -> list[_Sums]:
        """Sums over a batch of every task, in their order."""
        read = {task: read_labels(labels[task], predictions[task], self.missing.get(task)) for task in self.tasks}
        return [_summed(self._rows(task, read, predictions), sample_weight.get(task)) for task in self.tasks]

    def _rows(self, task: str, read: Mapping[str, Labels], predictions: Mapping[str, tf.Tensor]) -> RowLosses:
        loss = self._losses[task]
        if isinstance(loss, JointLoss):
            return loss.rows(task, read, predictions)
        return RowLosses(loss(read[task].values, predictions[task]), read[task].present_B)


def _summed(rows: RowLosses, sample_weight: Any) -> _Sums:
    weights_B = row_weights(sample_weight, rows.present_B)
    # The value is selected, not multiplied: a row without a label may have any prediction.
    total = tf.reduce_sum(tf.where(rows.present_B, rows.losses_B, 0.0) * weights_B)
    present = tf.cast(rows.present_B, tf.float32)
    return _Sums(total, tf.reduce_sum(present), tf.reduce_sum(weights_B), tf.cast(tf.shape(present)[0], tf.float32))


class _Sums(NamedTuple):
    """Sums over one batch: weighted losses, labelled rows, their weights, all rows."""

    total: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor
    rows: tf.Tensor


def _over_replicas(sums: Sequence[_Sums]) -> list[_Sums]:
    """Labels, weights and rows of the whole batch; the losses stay this replica's."""
    if replicas() == 1:
        return list(sums)
    counts_T3 = summed(tf.stack([tf.stack([part.labels, part.weights, part.rows]) for part in sums]))
    return [
        part._replace(labels=counts_T3[index, 0], weights=counts_T3[index, 1], rows=counts_T3[index, 2])
        for index, part in enumerate(sums)
    ]


def _quotient(numerator: tf.Tensor, denominator: tf.Tensor) -> tf.Tensor:
    return numerator / tf.maximum(denominator, 1.0)


def by_task(structure: Any, names: Sequence[str], what: str) -> dict[str, Any]:
    """A dict from what Keras users write: a dict, a list in the order of the outputs, or one value for one output.

    Raises:
        ValueError: names or their number do not fit the outputs.
    """
    if isinstance(structure, Mapping):
        unknown = [name for name in structure if name not in names]
        if unknown:
            raise ValueError(f"{what} must name outputs of the model. Received {unknown}. Known: {list(names)}.")
        return dict(structure)
    if isinstance(structure, (list, tuple)) and len(structure) == len(names):
        return dict(zip(names, structure, strict=True))
    if len(names) == 1:
        return {names[0]: structure}
    raise ValueError(
        f"{what} must be a dict by output, or one value for each of the outputs {list(names)}. Received {structure!r}."
    )
