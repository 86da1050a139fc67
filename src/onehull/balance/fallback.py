"""Equal weights where a system of gradients is too near to singular for its solution to be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.presence import safe_divide
from onehull.balance.types import Needs, State, Stats, chosen_gram
from onehull.balance.wrapper import Wrapper


@dataclass(frozen=True)
class Fallback(Wrapper):
    """The inner method's weights, or 1 for all tasks where gradients are nearly dependent.

    Nearly dependent: the condition number of the matrix of cosines between the active tasks' gradients is above a
    bound. Cosines, because tasks of very different size are no reason to fall back.

    Args:
        inner: the method; its state moves on in either case.
        condition: largest condition number. Above 1e6 a bound says little: gradients are 32-bit numbers, and the
            smallest eigenvalue is known to 1e-7 of the largest (measured for compiled steps of up to 12 tasks).
    """

    condition: float = 1e6
    needs: ClassVar[Needs] = "gram"

    def __post_init__(self) -> None:
        if not self.condition > 1:
            raise ValueError(f"Fallback.condition must be above 1. Received {self.condition}.")

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The inner weights, or ones."""
        weights_T, inner = self.inner_update(stats, state)
        # A diagonal of ones for a task without a gradient adds an eigenvalue of 1, which is never an extreme one.
        eigenvalues_T = tf.linalg.eigvalsh(cosines(chosen_gram(stats)))
        trusted = eigenvalues_T[..., :1] * self.condition >= eigenvalues_T[..., -1:]
        return tf.where(trusted, weights_T, tf.ones_like(weights_T)), inner


def cosines(gram_TT: tf.Tensor) -> tf.Tensor:
    """Cosines between gradients ``(…, T, T)``, float64; those with a zero gradient are 0, the diagonal is 1."""
    gram_TT = tf.cast(gram_TT, tf.float64)
    # The decomposition raises where a value is not finite; what then becomes of the step, the trainer decides.
    gram_TT = tf.where(tf.math.is_finite(gram_TT), gram_TT, tf.zeros_like(gram_TT))
    norms_T = tf.sqrt(tf.maximum(tf.linalg.diag_part(gram_TT), 0))
    products_TT = norms_T[..., :, tf.newaxis] * norms_T[..., tf.newaxis, :]
    return tf.linalg.set_diag(safe_divide(gram_TT, products_TT), tf.ones_like(norms_T))
