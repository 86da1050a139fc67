"""What the summed loss of a task is divided by, so that missing labels do not silently weigh tasks.

With losses ℓ, presence m, row weights w and batch size B:

==========  =======================  =============================================================================
coverage    Σ m w ℓ / (B · ρ̂)        unbiased, and a task's influence does not depend on how often it is labelled
labelled    Σ m w ℓ / Σ m            the same on average, but one lonely label weighs as much as a full batch
batch       Σ m w ℓ / B              a task with labels on 1 % of the rows has 1 % of the influence
sum         Σ m w ℓ                  the learning rate depends on the batch size
==========  =======================  =============================================================================

ρ̂ is the known or moving share of labelled rows. Where every label is present, the first three are the same.
"""

from __future__ import annotations

from typing import Literal, get_args

import tensorflow as tf

Normalizer = Literal["coverage", "labelled", "batch", "sum"]

# A Keras Loss object may ask for a reduction of its own; it is honoured for that task.
_REDUCTIONS = {"sum": "sum", "mean_with_sample_weight": "weighted"}


def check_normalizer(normalizer: str) -> None:
    """Raises ValueError for a name that is not known."""
    if normalizer not in get_args(Normalizer):
        known = ", ".join(map(repr, get_args(Normalizer)))
        raise ValueError(f"normalizer must be one of {known}. Received {normalizer!r}.")


def from_reduction(reduction: str | None, default: str) -> str:
    """The normaliser of a task whose Loss object asks for a reduction."""
    return _REDUCTIONS.get(reduction, default) if reduction else default


def denominator(
    normalizer: str, *, rows: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, share: tf.Tensor
) -> tf.Tensor:
    """What to divide by; a scalar that may be 0 where there is no label.

    Args:
        normalizer: a `Normalizer`, or ``weighted`` for the sum of the row weights.
        rows: B.
        labels: Σ m.
        weights: Σ m w.
        share: ρ̂.
    """
    return {
        "coverage": rows * share,
        "labelled": labels,
        "batch": rows,
        "sum": tf.ones_like(rows),
        "weighted": weights,
    }[normalizer]
