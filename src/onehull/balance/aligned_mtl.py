"""Aligned-MTL: Senushkin et al., "Independent Component Alignment for Multi-Task Learning", CVPR 2023.

The gradients' principal components are brought to one length: with ``G = V Λ Vᵀ``, ``w = σ V Λ^{−1/2} Vᵀ 1``.

Where we differ from the authors' code: a component counts as zero by the rank of the cosines, not by the size of its
eigenvalue, so that a short gradient is not taken for a dependent one; and the median of an even number of components
is the mean of the middle two eigenvalues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import tensorflow as tf

from onehull.balance.geometry import geometry
from onehull.balance.presence import safe_divide, weight_one_outside
from onehull.balance.types import Balancer, Needs, State, Stats


@dataclass(frozen=True)
class AlignedMtl(Balancer):
    """Gradients made orthogonal and equally long; weights are 1 where they are so already (G = I).

    Heads: each learns from its own loss, as the authors train.

    Args:
        mode: the common length σ: the root of the least eigenvalue of G that is not zero (``min``), of their median
            (``median``) or of their mean (``rmse``).
    """

    mode: Literal["min", "median", "rmse"] = "min"
    needs: ClassVar[Needs] = "gram"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """No state.

        Raises:
            ValueError: the mode is not known.
        """
        del num_tasks
        if self.mode not in ("min", "median", "rmse"):
            raise ValueError(f"AlignedMtl.mode must be min, median or rmse. Received {self.mode!r}.")
        return {}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights of the sum of the aligned gradients."""
        known = geometry(stats)
        values_T, vectors_TT = known.gram_spectrum()
        part_T = tf.linalg.matvec(vectors_TT, tf.cast(known.solved_T, tf.float64), transpose_a=True)
        weights_T = tf.linalg.matvec(vectors_TT, safe_divide(part_T, tf.sqrt(values_T)))
        weights_T *= tf.sqrt(self._common_value(values_T, known.rank))
        return weight_one_outside(weights_T, known.solved_T, stats.losses_T.dtype), dict(state)

    def _common_value(self, values_T: tf.Tensor, rank: tf.Tensor) -> tf.Tensor:
        """The eigenvalue that all components get; the last `rank` of the ascending values are not zero."""
        last = values_T.shape[0] - 1
        if self.mode == "rmse":
            return safe_divide(tf.reduce_sum(values_T), tf.cast(rank, values_T.dtype))
        if self.mode == "min":
            return tf.gather(values_T, last - tf.maximum(rank - 1, 0))
        below, above = rank // 2, tf.maximum(rank - 1, 0) // 2
        return (tf.gather(values_T, last - below) + tf.gather(values_T, last - above)) / 2
