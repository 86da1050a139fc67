"""How the gradients of a step move the weights: embedding tables by rows, everything else by a Keras optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import keras
import tensorflow as tf

from onehull.model.gradients import Gradient, all_finite, clipped, deduplicated, scaled
from onehull.model.replicas import replicas, run_where, summed
from onehull.optimizers import EmbeddingOptimizer

NonFinite = Literal["stop", "skip"]
"""What happens to a batch whose loss or gradient is not finite: the weights take it in and training stops (the loss
is reported), or the batch is left out."""


def check_non_finite(non_finite: str) -> str:
    """Raises ValueError for a choice that is not known."""
    if non_finite not in get_args(NonFinite):
        raise ValueError(f"non_finite must be 'stop' or 'skip'. Received {non_finite!r}.")
    return non_finite


class WeightUpdate:
    """The optimizers of a model at work.

    Args:
        optimizer: a Keras optimizer.
        embedding_optimizer: of the tables; None where the optimizer has them, too.
        variables: trainable variables of the model, in the order of the gradients.
        tables: the embedding tables among them.
        clip_norm: largest norm of all gradients together, tables included; None for no limit. A Keras optimizer's own
            ``global_clipnorm`` sees its own variables only.
        non_finite: what happens to a batch that is not finite.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        embedding_optimizer: keras.optimizers.Optimizer | None,
        variables: Sequence[Any],
        tables: Sequence[Any],
        clip_norm: float | None,
        non_finite: NonFinite,
    ) -> None:
        self.optimizer, self.embedding_optimizer = optimizer, embedding_optimizer
        self.variables, self.clip_norm, self.non_finite = list(variables), clip_norm, non_finite
        apart = {id(table) for table in tables} if embedding_optimizer is not None else set()
        self._rows = [index for index, variable in enumerate(self.variables) if id(variable) in apart]
        self._dense = [index for index, variable in enumerate(self.variables) if id(variable) not in apart]
        if self._rows and not self._dense:
            raise ValueError("The model must have trainable variables beside its embedding tables. It has none.")
        if clip_norm is not None and self._scales:
            rule = "cannot be used with a LossScaleOptimizer, whose gradients are not yet of their true length"
            raise ValueError(f"clip_norm {rule}. Give its inner optimizer global_clipnorm, or use mixed_bfloat16.")

    def build(self) -> None:
        """Makes the optimizers' variables; made before the first step, the step is traced once, not twice."""
        if not self.optimizer.built:
            self.optimizer.build([self.variables[index] for index in self._dense])
        if self.embedding_optimizer is not None and not self.embedding_optimizer.built:
            self.embedding_optimizer.build([self.variables[index] for index in self._rows])

    def apply(self, loss: tf.Tensor, gradients: Sequence[Gradient]) -> tf.Tensor:
        """Moves the weights.

        Args:
            loss: this replica's share of the loss.
            gradients: this replica's share of each variable's gradient, multiplied by the optimizer's loss scale.

        Returns:
            Whether the batch was taken in.
        """
        gradients = self._unscaled(gradients)
        if self.clip_norm is not None:
            gradients = self._clipped(gradients, self.clip_norm)
        if self.non_finite == "stop":
            self._step(gradients)
            return tf.constant(True)
        finite = tf.math.is_finite(loss)
        if self._rows or not self._scales:  # a loss-scaling optimizer looks at its gradients itself
            looked_at = self._rows if self._scales else range(len(gradients))
            finite &= all_finite([gradients[index] for index in looked_at])
        taken = summed(tf.cast(finite, tf.float32)) >= replicas()
        run_where(taken, self._step, gradients)
        return taken

    @property
    def _scales(self) -> bool:
        return isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)

    def _unscaled(self, gradients: Sequence[Gradient]) -> list[Gradient]:
        """Takes the loss scale out of the tables' gradients, which the scaling optimizer does not see."""
        if not self._scales:
            return list(gradients)
        back, rows = 1.0 / self.optimizer.scale_loss(tf.ones(())), set(self._rows)
        return [scaled(gradient, back) if index in rows else gradient for index, gradient in enumerate(gradients)]

    def _clipped(self, gradients: Sequence[Gradient], norm: float) -> list[Gradient]:
        """Gradients of the whole batch at no more than the largest norm; each replica keeps an equal share."""
        present = [index for index, gradient in enumerate(gradients) if gradient is not None]
        whole = [deduplicated(gradient) for gradient in summed([gradients[index] for index in present])]
        found: list[Gradient] = [None] * len(gradients)
        for index, gradient in zip(present, clipped(whole, norm, share=1.0 / replicas()), strict=True):
            found[index] = gradient
        return found

    def _step(self, gradients: Sequence[Gradient]) -> None:
        """Both optimizers sum over the replicas themselves."""
        self.optimizer.apply(
            [gradients[index] for index in self._dense], [self.variables[index] for index in self._dense]
        )
        if self.embedding_optimizer is not None and self._rows:
            # Clipping has added the gradients of each row up already.
            known = isinstance(self.embedding_optimizer, EmbeddingOptimizer) and self.clip_norm is not None
            self.embedding_optimizer.apply(
                [gradients[index] for index in self._rows],
                [self.variables[index] for index in self._rows],
                **({"unique": True} if known else {}),
            )
