"""Coverage: the share of rows that have a label, known from a pass over the data or followed while training.

Shapes: ``T`` tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from onehull.model.replicas import state_variable

DECAY = 0.99
"""Of the moving share: about the last 100 steps count."""


class Coverage:
    """The expected share of labelled rows of each task.

    The moving share divides a decayed count of labels by a decayed count of rows, which corrects the bias of the
    first steps: the first batch is taken at its own share.

    Args:
        tasks: names of the tasks.
        known: shares measured on the training data; the other tasks' shares are followed.
    """

    def __init__(self, tasks: Sequence[str], known: Mapping[str, float] | None = None) -> None:
        known = known or {}
        self._known_T = tf.constant([known.get(task, 0.0) for task in tasks], tf.float32)
        self._labels_T = state_variable(tf.zeros(len(tasks)), "coverage_labels")
        self._rows = state_variable(0.0, "coverage_rows")

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """What a checkpoint has to hold."""
        return {"coverage_labels": self._labels_T, "coverage_rows": self._rows}

    def share(self, labels_T: tf.Tensor, rows: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Shares ``(T,)`` to divide by; 0 for a task that has never had a label.

        Args:
            labels_T: number of labelled rows in this batch.
            rows: number of rows in this batch.
            training: only training moves the shares.
        """
        kept_T, kept_rows = self._labels_T.value(), self._rows.value()
        if training:
            kept_T, kept_rows = DECAY * kept_T + labels_T, DECAY * kept_rows + rows
            self._labels_T.assign(kept_T)
            self._rows.assign(kept_rows)
        unseen = tf.equal(kept_rows, 0.0)  # evaluated before it was ever trained
        moving_T = tf.where(unseen, labels_T, kept_T) / tf.maximum(tf.where(unseen, rows, kept_rows), 1.0)
        return tf.where(self._known_T > 0, self._known_T, moving_T)


def coverage_config(coverage: Mapping[str, Any] | None) -> dict[str, float] | None:
    """A JSON form of known shares, checked.

    Raises:
        ValueError: a share is not between 0 and 1.
    """
    if coverage is None:
        return None
    for task, share in coverage.items():
        if not 0 <= share <= 1:
            raise ValueError(f"coverage[{task!r}] must be a share between 0 and 1. Received {share!r}.")
    return {task: float(share) for task, share in coverage.items()}
