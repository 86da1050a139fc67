"""One training step whose task weights come from the Gram matrix of the task gradients.

The model is cut at its shared representation h. Forward once; T backward passes through the heads give
``Z_k = ∂L_k/∂h``. What happens then is the *level*, see `onehull.model.levels`. Task-specific layers receive the
gradient of their own (statically weighted) loss, or that gradient times the task's weight, as the method says.

Shapes: ``B`` batch, ``T`` tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from onehull.balance.types import Heads
from onehull.model.embedding_table import tables_of
from onehull.model.gradients import DenseGradients, Gradient, TaskGradients, add_gradients, scaled, task_gradients
from onehull.model.objective import TaskLosses
from onehull.model.replicas import computed_once, replicas
from onehull.model.sharing import Sharing

ComputeLosses = Callable[[Any], TaskLosses]
"""Outputs of the model → losses of the tasks."""


class Cut(NamedTuple):
    """What a step is made for.

    Attributes:
        sharing: the model cut at its shared representation.
        variables: trainable variables of the whole model.
        compared: the shared variables at which gradients are compared by the levels that look at parameters.
        heads: what task-specific layers receive.
    """

    sharing: Sharing
    variables: Sequence[Any]
    compared: Sequence[Any]
    heads: Heads

    @property
    def beside(self) -> list[Any]:
        """Shared variables that are weighed and not compared."""
        compared = {id(variable) for variable in self.compared}
        return [v for v in self.sharing.trunk.trainable_variables if id(v) not in compared]


def shared_variables(sharing: Sharing, *, tables: bool) -> list[Any]:
    """Trainable variables below the cut.

    Args:
        sharing: the model cut in two.
        tables: with the embedding tables, or without.
    """
    embeddings = {id(variable) for variable in tables_of(sharing.trunk.layers)}
    return [v for v in sharing.trunk.trainable_variables if tables or id(v) not in embeddings]


@dataclass(frozen=True)
class Forward:
    """A forward pass, and the backward passes that it leaves possible. Gradients leave multiplied by the loss scale.

    Attributes:
        cut: the model cut in two.
        scale: loss scale of mixed precision.
        outputs: predictions of the model.
        losses_T: task losses.
        active_T: bool, tasks with a label.
        penalty: regularisation of the whole model, each layer's once.
    """

    cut: Cut
    scale: tf.Tensor
    outputs: Any
    losses_T: tf.Tensor
    active_T: tf.Tensor
    penalty: tf.Tensor
    _trunk_tape: tf.GradientTape
    _head_tape: tf.GradientTape
    _shared: list[tf.Tensor]
    _scaled_losses: list[tf.Tensor]
    _scaled_head_penalty: tf.Tensor
    _trunk_penalty: tf.Tensor

    @classmethod
    def run(cls, cut: Cut, x: Any, compute_losses: ComputeLosses, scale: tf.Tensor) -> Forward:
        """Runs the model on a batch, in training.

        Args:
            cut: the model cut in two.
            x: inputs of the model.
            compute_losses: outputs → losses and active tasks.
            scale: loss scale of mixed precision.
        """
        trunk, heads = cut.sharing.trunk, cut.sharing.heads
        with tf.GradientTape(persistent=True) as trunk_tape:
            frontier = trunk(x, training=True)
            frontier = list(frontier) if isinstance(frontier, (list, tuple)) else [frontier]
            trunk_penalty = tf.add_n([tf.zeros(()), *_scalars(trunk.layers)])
        with tf.GradientTape(persistent=True) as head_tape:
            shared = [tensor for tensor, differs in zip(frontier, cut.sharing.differentiable, strict=True) if differs]
            head_tape.watch(shared)
            # A prediction that another task reads carries the logits that it was made of, and its loss would be taken
            # from them, past the tape. A copy of the numbers carries nothing.
            outputs = heads([tf.identity(tensor) for tensor in frontier], training=True)
            losses = compute_losses(outputs)
            scaled_losses = [loss * scale for loss in losses.by_task]
            in_trunk = {id(layer) for layer in trunk.layers}
            head_penalty = tf.add_n([tf.zeros(()), *_scalars([la for la in heads.layers if id(la) not in in_trunk])])
            scaled_penalty = head_penalty * scale / replicas()
        return cls(
            cut, scale, outputs, losses.stacked(), losses.active_T, trunk_penalty + head_penalty,
            trunk_tape, head_tape, shared, scaled_losses, scaled_penalty, trunk_penalty,
        )  # fmt: skip

    @computed_once
    def at_representation(self) -> list[DenseGradients]:
        """Each task's gradient at every tensor of the shared representation."""
        return [DenseGradients(tf.stack(of_tensor)) for of_tensor in zip(*self._head_backward[0], strict=True)]

    def at_compared_variables(self) -> list[TaskGradients]:
        """Each task's gradient at every compared variable: T backward passes through the trunk."""
        variables = self.cut.compared
        rows = [
            self._trunk_tape.gradient(
                self._shared,
                variables,
                output_gradients=self._seeds([part.values[k] for part in self.at_representation]),
            )
            for k in range(len(self._scaled_losses))
        ]
        return [task_gradients(parts, variable) for *parts, variable in zip(*rows, variables, strict=True)]

    def through_trunk(self, weights_T: tf.Tensor) -> list[Gradient]:
        """Gradients of all variables from one backward pass with the weighted gradient at the representation."""
        combined = [part.combined(weights_T) for part in self.at_representation]
        at_trunk = self._trunk_backward(
            [add_gradients(parts) for parts in zip(combined, self._penalty[0], strict=True)]
        )
        return [add_gradients([t, h]) for t, h in zip(at_trunk, self._at_heads(weights_T), strict=True)]

    def with_compared(self, compared: Sequence[Gradient], weights_T: tf.Tensor) -> list[Gradient]:
        """Gradients of all variables, those of the compared ones being known.

        Args:
            compared: gradient of the task losses at each compared variable.
            weights_T: weights of the tasks, for the other variables.
        """
        known = {id(v): gradient for v, gradient in zip(self.cut.compared, compared, strict=True)}
        beside = self.cut.beside
        if beside:
            combined = self._seeds([part.combined(weights_T) for part in self.at_representation])
            found = self._trunk_tape.gradient(self._shared, beside, output_gradients=combined)
            known |= {id(v): gradient for v, gradient in zip(beside, found, strict=True)}
        penalty = self._trunk_backward(self._penalty[0])
        return [
            add_gradients([known.get(id(variable)), of_penalty, at_head])
            for variable, of_penalty, at_head in zip(
                self.cut.variables, penalty, self._at_heads(weights_T), strict=True
            )
        ]

    def _trunk_backward(self, at_shared: Sequence[tf.Tensor | None]) -> list[Gradient]:
        """Gradients at all variables, from those at the representation and from the trunk's own penalty."""
        reached = [(h, tf.cast(z, h.dtype)) for h, z in zip(self._shared, at_shared, strict=True) if z is not None]
        targets, seeds = (
            [*(h for h, _ in reached), self._trunk_penalty],
            [*(z for _, z in reached), self.scale / replicas()],
        )
        return list(self._trunk_tape.gradient(targets, self.cut.variables, output_gradients=seeds))

    @computed_once
    def _head_backward(self) -> tuple[list[list[tf.Tensor]], list[list[Gradient]]]:
        """For each task, the gradients at the tensors of the representation, and at all variables of the heads."""
        shared, at_shared, at_heads = self._shared, [], []
        for loss in self._scaled_losses:
            found = self._head_tape.gradient(loss, [*shared, *self.cut.variables])
            at_shared.append([_dense(gradient, h) for gradient, h in zip(found, shared, strict=False)])
            at_heads.append(found[len(shared) :])
        return at_shared, at_heads

    def _at_heads(self, weights_T: tf.Tensor) -> list[Gradient]:
        """Gradients at the task-specific variables, each task's own or weighted, as the method says."""
        by_task = self._head_backward[1]
        if self.cut.heads == "weighted":
            by_task = [
                [scaled(g, w) for g in gradients] for gradients, w in zip(by_task, tf.unstack(weights_T), strict=True)
            ]
        return [add_gradients(parts) for parts in zip(*by_task, self._penalty[1], strict=True)]

    @computed_once
    def _penalty(self) -> tuple[list[tf.Tensor | None], list[Gradient]]:
        """Gradients of the heads' penalty at the representation, which a calibrator reaches, and at all variables."""
        shared = self._shared
        found = self._head_tape.gradient(self._scaled_head_penalty, [*shared, *self.cut.variables])
        at_shared = [None if z is None else _dense(z, h) for z, h in zip(found, shared, strict=False)]
        return at_shared, found[len(shared) :]

    def _seeds(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return [tf.cast(z, h.dtype) for z, h in zip(gradients, self._shared, strict=True)]


def _dense(gradient: Gradient, like: tf.Tensor) -> tf.Tensor:
    """A task's gradient at one tensor in float32; 0 where the task does not read it."""
    return tf.cast(tf.zeros_like(like) if gradient is None else tf.convert_to_tensor(gradient), tf.float32)


def _scalars(layers: Sequence[Any]) -> list[tf.Tensor]:
    """Regularisation losses of layers, as Keras adds them up."""
    return [tf.reduce_sum(tf.cast(loss, tf.float32)) for layer in layers for loss in layer.losses]
