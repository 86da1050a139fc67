"""From a section of the spec and the training labels to a head and its loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras

from onehull.model.duration.cread import CreadLoss, cread_head
from onehull.model.duration.d2q import D2qLoss, d2q_head
from onehull.model.duration.log1p import SmearedLoss, log1p_head
from onehull.model.duration.quantile import PinballLoss, quantile_head
from onehull.model.duration.wlr import WlrLoss, wlr_head
from onehull.model.heads import DenseHead
from onehull.spec.heads import Head
from onehull.spec.labels import LabelDistribution


class Kind(NamedTuple):
    """A way to learn durations.

    Attributes:
        head: (labels, *, name, seed, and the fields of the section that it has arguments for) → the layer.
        loss: takes the fields of the section that it has arguments for.
    """

    head: Callable[..., DenseHead]
    loss: Callable[..., keras.losses.Loss]


HEADS: dict[str, Kind] = {
    "log1p": Kind(log1p_head, SmearedLoss),
    "wlr": Kind(wlr_head, WlrLoss),
    "d2q": Kind(d2q_head, D2qLoss),
    "cread": Kind(cread_head, CreadLoss),
    "quantile": Kind(quantile_head, PinballLoss),
}
"""Every head of durations by its name in a spec."""


def duration_head(
    section: Head,
    labels: LabelDistribution | None,
    hidden: Any,
    symbolic: Mapping[str, Any],
    *,
    name: str,
    seed: int | None,
) -> Any:
    """The prediction of a task, symbolic ``(B, 1)``.

    Args:
        section: of the head.
        labels: how the training labels are distributed.
        hidden: symbolic representation of the task, ``(B, width)``.
        symbolic: symbolic inputs of the model, among them the duration where the labels are grouped by it.
        name: of the task.
        seed: of the initial kernel, together with the name.

    Raises:
        ValueError: the labels are not known, or one is negative.
    """
    if labels is None:
        rule = f"must know the distribution of the training labels (head {section.kind!r})"
        raise ValueError(f"priors[{name!r}] {rule}. Received none: the training part may hold no label of this task.")
    if labels.quantiles[0] < 0:
        rule = f"must not be negative (head {section.kind!r})"
        remedy = "Use the head 'linear', or name the value that stands for a missing label in `missing`."
        raise ValueError(f"labels of task {name!r} {rule}. The smallest is {labels.quantiles[0]:g}. {remedy}")
    make = HEADS[section.kind].head
    head = make(labels, name=name, seed=seed, **_taken(make, section))
    if labels.groups is None or not head.reads_duration:
        return head(hidden)
    return head([hidden, symbolic[labels.groups.feature]])


def duration_loss(section: Head) -> keras.losses.Loss:
    """The loss of a head, on what the head attaches to its prediction."""
    loss = HEADS[section.kind].loss
    return loss(**_taken(loss, section))


def _taken(function: Callable[..., Any], section: Head) -> dict[str, Any]:
    """The section's fields that a function has arguments for."""
    own = set(inspect.signature(function).parameters) & set(type(section).model_fields)
    return {field: getattr(section, field) for field in sorted(own)}
