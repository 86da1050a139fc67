"""What training does about a loss that is not finite: whose it is, in which batch, and how often it steps back."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from onehull.errors import DataError
from onehull.model import MultiTaskModel
from onehull.train.checkpoint import Progress

MOST_RETURNS = 3
"""Returns in one epoch. What three batches do not explain is no matter of single batches."""


def not_finite_batch(model: MultiTaskModel, state: Progress) -> int:
    """Number, from 0 in its epoch, of the first batch at which a loss was not finite.

    Args:
        model: has such a batch.
        state: the position behind the call that took the batch in; no batch has been left out since.
    """
    return min(model.first_not_finite.values()) - model.batches_seen + state.batch


def not_finite_text(model: MultiTaskModel, state: Progress, learning_rate: float) -> str:
    """Whose loss was not finite, where, and what to do."""
    tasks = ", ".join(map(repr, model.first_not_finite))
    losses = {name: float(value) for name, value in model.get_metrics_result().items() if name.endswith("loss")}
    where = f"epoch {state.epoch + 1}, batch {1 + not_finite_batch(model, state)}"
    return (
        f"the loss of task {tasks} must be finite. Received {losses} in {where} (of the order that seed and epoch "
        "give). Labels or inputs may hold values that are not finite or far too large, or the learning rate is too "
        f"high: learning_rate is {learning_rate}."
    )


def weights_check(model: MultiTaskModel) -> Callable[[], bool]:
    """A compiled function that says whether the dense weights are finite.

    A loss may be finite where its gradient is not. The tables are left out, which costs nothing at their size: what
    reaches them has come through the dense weights.
    """
    tables = {id(table) for table in model.tables}
    dense = [variable for variable in model.trainable_variables if id(variable) not in tables]

    @tf.function(autograph=False)
    def check() -> tf.Tensor:
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(variable.value)) for variable in dense])

    return lambda: bool(check())


def weights_text(state: Progress, learning_rate: float) -> str:
    """Where weights were not finite though all losses were, and what to do."""
    return (
        f"the weights must be finite. Received others in epoch {state.epoch + 1}, in or before batch {state.batch}, "
        "though all losses were finite: a gradient was not. Lower the learning rate, "
        f"{learning_rate}, set training.clip_norm, or training.non_finite: skip, which looks at each gradient."
    )


def check_return(state: Progress, batch: int, text: str) -> None:
    """Checks that stepping back may help.

    Args:
        state: where training stands.
        batch: that is to be left out.
        text: what was not finite.

    Raises:
        DataError: the batch comes before one that was left out in vain, or there have been too many returns.
    """
    earlier = [left for epoch, left in state.left_out if epoch == state.epoch]
    if not earlier or (len(earlier) < MOST_RETURNS and batch > max(earlier)):
        return
    batches = ", ".join(str(left + 1) for left in earlier)
    raise DataError(f"{text} Training has stepped back {len(earlier)} times and left out batches {batches} in vain.")
