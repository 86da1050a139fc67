"""Tensors that travel with a prediction from its head to its loss.

A duration is predicted as one number, but learned from the logits of many thresholds; a model of the error belongs to
training and to no reader of predictions. Such tensors are no outputs: they are attached to the prediction's tensor, as
Keras attaches the logits to the result of a sigmoid. They are there wherever the loss sees the tensor that the
head has made: in `fit`, in `evaluate` and in our steps, eager, compiled and under XLA. A copy of the numbers has none.
"""

from __future__ import annotations

from typing import Any

_NAME = "_onehull_attached"


def attach(prediction: Any, **tensors: Any) -> Any:
    """Gives a prediction tensors to carry, beside those that it has; returns the same prediction."""
    setattr(prediction, _NAME, {**getattr(prediction, _NAME, {}), **tensors})
    return prediction


def attached(prediction: Any, name: str, owner: str) -> Any:
    """A tensor that a prediction carries.

    Args:
        prediction: output of a head, as the head made it.
        name: of the tensor.
        owner: the head that attaches it, for the message.

    Raises:
        ValueError: it carries none of that name.
    """
    tensors = getattr(prediction, _NAME, {})
    if name not in tensors:
        rule = f"must come straight from {owner}, which attaches {name!r} to it"
        raise ValueError(f"y_pred {rule}. Received a tensor that carries {sorted(tensors) or 'nothing'}.")
    return tensors[name]
