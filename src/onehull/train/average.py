"""The running averages of the weights, in the model's place while it is measured and saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from onehull.model import MultiTaskModel


@contextmanager
def averaged_weights(model: MultiTaskModel) -> Iterator[None]:
    """The model with the running averages of its weights, where the optimizer keeps any (``use_ema``)."""
    optimizer = model.optimizer
    if not optimizer.use_ema:
        yield
        return
    pairs = list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True))
    own = [tf.identity(variable.value) for variable, _ in pairs]
    try:
        for variable, average in pairs:
            variable.assign(average.value)
        yield
    finally:
        for (variable, _), value in zip(pairs, own, strict=True):
            variable.assign(value)
