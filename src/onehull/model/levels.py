"""Where the gradients of the tasks are compared, which is what a Gram matrix costs.

================  =================================================================================================
representation    at the tensors that the tasks share, for all rows of the batch. T backward passes through the
                  heads, one through the trunk: about a plain step. G is taken over all elements of all rows: summing
                  over the batch first would let conflicts between rows cancel. An upper bound of the conflict at the
                  parameters (MGDA-UB: Sener and Koltun, NeurIPS 2018, section 3.3), not the same number.
sampled           at the shared parameters, on the first rows of the batch (batches are shuffled); the weights then
                  hold for the whole batch, at the price of one backward pass through the heads for each task.
parameters        at the shared parameters, on the whole batch: T backward passes through the trunk.
================  =================================================================================================

The shared parameters are those of the shared layers. Embedding tables are weighed as these are and take no part in the
comparison, unless asked for: T gradients of every table cost more than all else, and an optimizer that adapts to each
row changes their lengths anyway.

Adding a level: one function and one entry in `LEVELS`.

Shapes: ``T`` tasks, ``G`` groups of variables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from onehull.balance import Stats
from onehull.model.gradients import Gradient, gram, gram_by_group, over_replicas
from onehull.model.gram_step import Forward
from onehull.model.replicas import summed


@dataclass(frozen=True)
class Step:
    """One batch, as a level sees it.

    Attributes:
        forward: runs the whole batch; its backward passes wait for a tensor, where one is given.
        part: runs the first rows of the batch, and leaves no trace of it in metrics and moving statistics.
        weigh: statistics → weights ``(T,)``, or ``(G, T)``.
        number: steps before this one.
        groups: number of each compared variable's group; None where a method weighs all variables alike.
    """

    forward: Callable[..., Forward]
    part: Callable[[], Forward]
    weigh: Callable[[Stats], tf.Tensor]
    number: tf.Tensor
    groups: tuple[int, ...] | None = None


Level = Callable[[Step], tuple[Forward, list[Gradient]]]
"""A step → its forward pass, and the gradients of all trainable variables, multiplied by the loss scale."""


def representation(step: Step) -> tuple[Forward, list[Gradient]]:
    """Compares the gradients at the shared representation."""
    forward = step.forward()
    # Rows of the batch stand side by side, so that the products of the replicas' rows add up.
    gram_TT = summed(gram(forward.at_representation, forward.active_T))
    weights_T = step.weigh(_stats(forward, forward.active_T, gram_TT, step))
    return forward, forward.through_trunk(weights_T)


def sampled(step: Step) -> tuple[Forward, list[Gradient]]:
    """Compares the gradients at the shared parameters on a part of the batch.

    A task whose labels are all outside the part is left out of the solution at this step.
    """
    part = step.part()
    gram_TT = gram(over_replicas(part.at_compared_variables()), part.active_T)
    # The part has read the heads, whose gradients need nothing of it.
    forward = step.forward(after=gram_TT)
    active_T = forward.active_T & part.active_T
    weights_T = step.weigh(_stats(forward, active_T, gram_TT, step))
    return forward, forward.through_trunk(weights_T)


def parameters(step: Step) -> tuple[Forward, list[Gradient]]:
    """Compares the gradients at the shared parameters, exactly."""
    forward = step.forward()
    by_variable = forward.at_compared_variables()
    groups = step.groups
    if groups is None:
        gram_TT = gram(over_replicas(by_variable), forward.active_T)
        weights_T = step.weigh(_stats(forward, forward.active_T, gram_TT, step))
        return forward, forward.with_compared([part.combined(weights_T) for part in by_variable], weights_T)
    gram_GTT = gram_by_group(over_replicas(by_variable), groups, forward.active_T)
    stats = _stats(forward, forward.active_T, tf.reduce_sum(gram_GTT, axis=0), step)
    weights_GT = step.weigh(stats._replace(gram_GTT=gram_GTT / _squared(forward.scale)))
    compared = [part.combined(weights_GT[group]) for part, group in zip(by_variable, groups, strict=True)]
    return forward, forward.with_compared(compared, tf.reduce_mean(weights_GT, axis=0))


LEVELS: dict[str, Level] = {"parameters": parameters, "representation": representation, "sampled": sampled}
"""Every level by its name."""


def _stats(forward: Forward, active_T: tf.Tensor, gram_TT: tf.Tensor, step: Step) -> Stats:
    """Statistics of a step; what mixed precision has multiplied the gradients by is taken out."""
    return Stats(summed(tf.stop_gradient(forward.losses_T)), active_T, gram_TT / _squared(forward.scale), step.number)


def _squared(scale: Any) -> tf.Tensor:
    return tf.square(tf.cast(scale, tf.float32))
