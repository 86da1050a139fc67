"""Updates as long as the plain sum's.

With it two methods differ in the direction of the update alone, whatever their weights sum to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.presence import weight_one_when_absent
from onehull.balance.types import Needs, State, Stats, chosen_gram
from onehull.balance.wrapper import Wrapper

_RESOLVED = 1e-6
"""Squared length of an update, as a share of what its parts would have in one line, that 32-bit numbers resolve."""


@dataclass(frozen=True)
class MatchNorm(Wrapper):
    """The inner method's weights, scaled so that ``Σ w_k·g_k`` is as long as ``Σ g_k``.

    Where the inner update vanishes its length cannot be changed, and the weights stay as they are.

    Args:
        inner: the method; one on losses is weighed by the gradients' lengths then, too.
    """

    needs: ClassVar[Needs] = "gram"

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The scaled weights."""
        weights_T, inner = self.inner_update(stats, state)
        gram_TT = tf.cast(chosen_gram(stats), weights_T.dtype)
        norms_T = tf.sqrt(tf.maximum(tf.linalg.diag_part(gram_TT), 0))
        longest = tf.reduce_sum(tf.abs(weights_T) * norms_T, axis=-1, keepdims=True) ** 2
        found = _length2(weights_T, gram_TT)
        wanted = tf.maximum(_length2(tf.ones_like(weights_T), gram_TT), 0)
        resolved = found > _RESOLVED * longest
        one = tf.ones_like(found)
        factor = tf.where(resolved, tf.sqrt(wanted / tf.where(resolved, found, one)), one)
        return weight_one_when_absent(weights_T * factor, stats.active_T), inner


def _length2(weights_T: tf.Tensor, gram_TT: tf.Tensor) -> tf.Tensor:
    """Squared length ``(…, 1)`` of the weighted sum of gradients."""
    return tf.reduce_sum(weights_T * tf.linalg.matvec(gram_TT, weights_T), axis=-1, keepdims=True)
