"""One training step whose task weights come from the Gram matrix of the task gradients.

The gradients are taken at the shared representation h: forward once, T backward passes through the heads for
``Z_k = ∂L_k/∂h``, weights from ``G_ij = ⟨Z_i, Z_j⟩``, and one backward pass through the trunk with
``Σ_k w_k Z_k``. G is taken over all elements of h for all rows of the batch: summing over the batch first would let
conflicts between rows cancel. Task-specific layers receive the gradient of their own (statically weighted) loss.

Shapes: ``B`` batch, ``T`` tasks, ``N`` elements of a tensor for the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from onehull.balance import Stats
from onehull.model.sharing import Sharing

Gradient = Any
"""A tensor, `tf.IndexedSlices` for rows of an embedding, or None."""


@dataclass(frozen=True)
class GramStep:
    """Gradients of one batch, for any choice of weights.

    Attributes:
        sharing: the model cut at its shared representation.
        variables: trainable variables of the whole model.
        scale: loss scale of mixed precision; gradients leave multiplied by it.
    """

    sharing: Sharing
    variables: Sequence[Any]
    scale: tf.Tensor

    def forward(self, x: Any, compute_losses: Callable[[Any], tuple[tf.Tensor, tf.Tensor]]) -> _Forward:
        """Runs the model.

        Args:
            x: inputs of the model.
            compute_losses: outputs → task losses ``(T,)`` and active tasks ``(T,)``.
        """
        trunk, heads = self.sharing.trunk, self.sharing.heads
        with tf.GradientTape() as trunk_tape:
            frontier = trunk(x, training=True)
            frontier = list(frontier) if isinstance(frontier, (list, tuple)) else [frontier]
            trunk_penalty = tf.add_n([tf.zeros(()), *_scalars(trunk.layers)])
        with tf.GradientTape(persistent=True) as head_tape:
            shared = [tensor for tensor, differs in zip(frontier, self.sharing.differentiable, strict=True) if differs]
            head_tape.watch(shared)
            outputs = heads(frontier, training=True)
            losses_T, active_T = compute_losses(outputs)
            scaled = [loss * self.scale for loss in tf.unstack(losses_T)]
            in_trunk = {id(layer) for layer in trunk.layers}
            own = [layer for layer in heads.layers if id(layer) not in in_trunk]
            head_penalty = tf.add_n([tf.zeros(()), *_scalars(own)])
            scaled_penalty = head_penalty * self.scale
        return _Forward(
            self,
            trunk_tape,
            head_tape,
            shared,
            scaled,
            scaled_penalty,
            trunk_penalty,
            outputs,
            losses_T,
            active_T,
            trunk_penalty + head_penalty,
        )


@dataclass(frozen=True)
class _Forward:
    """What a forward pass leaves for the backward passes."""

    step: GramStep
    trunk_tape: tf.GradientTape
    head_tape: tf.GradientTape
    shared: list[tf.Tensor]
    scaled_losses: list[tf.Tensor]
    scaled_head_penalty: tf.Tensor
    trunk_penalty: tf.Tensor
    outputs: Any
    losses_T: tf.Tensor
    active_T: tf.Tensor
    penalty: tf.Tensor
    """Regularisation of the whole model, each layer's once."""

    def gradients(self, weigh: Callable[[Stats], tf.Tensor], step: tf.Tensor) -> tuple[list[Gradient], tf.Tensor]:
        """Gradients of all trainable variables, multiplied by the loss scale, and the weights used.

        Args:
            weigh: statistics → weights ``(T,)``.
            step: number of steps before this one.
        """
        at_shared, at_heads = self._head_backward()
        gram_TT = gram([z / self.step.scale for z in at_shared], self.active_T)
        weights_T = weigh(Stats(tf.stop_gradient(self.losses_T), self.active_T, gram_TT, step))
        combined = [tf.tensordot(weights_T, z, axes=1) for z in at_shared]
        targets = [*self.shared, self.trunk_penalty]
        seeds = [*(tf.cast(z, h.dtype) for z, h in zip(combined, self.shared, strict=True)), self.step.scale]
        at_trunk = self.trunk_tape.gradient(targets, self.step.variables, output_gradients=seeds)
        return [add_gradients([t, h]) for t, h in zip(at_trunk, at_heads, strict=True)], weights_T

    def _head_backward(self) -> tuple[list[tf.Tensor], list[Gradient]]:
        """Each task's gradient at the tensors of the representation, ``(T, B, …)``, and the sum at the heads."""
        variables, shared = self.step.variables, self.shared
        rows, at_heads = [], []
        for loss in self.scaled_losses:
            found = self.head_tape.gradient(loss, [*shared, *variables])
            rows.append([_dense(gradient, h) for gradient, h in zip(found, shared, strict=False)])
            at_heads.append(found[len(shared) :])
        at_heads.append(self.head_tape.gradient(self.scaled_head_penalty, variables))
        at_shared = [tf.stack(of_tensor) for of_tensor in zip(*rows, strict=True)]
        return at_shared, [add_gradients(parts) for parts in zip(*at_heads, strict=True)]


def gram(parts: Sequence[tf.Tensor], active_T: tf.Tensor) -> tf.Tensor:
    """Inner products ``(T, T)``; rows and columns of absent tasks are exactly 0.

    Args:
        parts: each task's gradient at each tensor of the representation, ``(T, B, …)`` float32.
        active_T: tasks with a label.
    """
    num_tasks = parts[0].shape[0]
    flat = [tf.reshape(part_TB, [num_tasks, -1]) for part_TB in parts]
    gram_TT = tf.add_n([tf.matmul(z_TN, z_TN, transpose_b=True) for z_TN in flat])
    both_TT = active_T[:, tf.newaxis] & active_T[tf.newaxis, :]
    return tf.where(both_TT, gram_TT, tf.zeros_like(gram_TT))


def add_gradients(parts: Sequence[Gradient]) -> Gradient:
    """Sum of gradients of one variable; stays sparse while all parts are."""
    present = [part for part in parts if part is not None]
    if len(present) <= 1:
        return present[0] if present else None
    if all(isinstance(part, tf.IndexedSlices) for part in present):
        values = tf.concat([part.values for part in present], axis=0)
        indices = tf.concat([part.indices for part in present], axis=0)
        return tf.IndexedSlices(values, indices, present[0].dense_shape)
    return tf.add_n([tf.convert_to_tensor(part) for part in present])


def _dense(gradient: Gradient, like: tf.Tensor) -> tf.Tensor:
    """A task's gradient at one tensor in float32; 0 where the task does not read it."""
    return tf.cast(tf.zeros_like(like) if gradient is None else tf.convert_to_tensor(gradient), tf.float32)


def _scalars(layers: Sequence[Any]) -> list[tf.Tensor]:
    """Regularisation losses of layers, as Keras adds them up."""
    return [tf.reduce_sum(tf.cast(loss, tf.float32)) for layer in layers for loss in layer.losses]
