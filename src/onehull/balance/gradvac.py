"""GradVac: Wang et al., "Gradient Vaccine", ICLR 2021 (arXiv 2010.05874), algorithm 1.

As PCGrad, but a gradient is turned towards another one whenever their cosine is below its usual value ρ, which is a
moving average: ``g̃_i += a g_j`` with ``a = ‖g̃_i‖ (ρ √(1−φ²) − φ √(1−ρ²)) / (‖g_j‖ √(1−ρ²))``, φ the cosine of g̃_i and
g_j.

Where we differ: ρ is kept within ±0.999, since the formula divides by 0 at 1, where identical tasks would bring it; a
pair of which one has no gradient in this step keeps its ρ. The cosines are of the level at which gradients are
compared, not of each layer: for those, give the spec's `groups`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.draws import random_orders
from onehull.balance.geometry import Geometry, geometry
from onehull.balance.presence import safe_divide, weight_one_outside
from onehull.balance.types import Balancer, Needs, State, Stats

_LARGEST = 0.999


@dataclass(frozen=True)
class GradVac(Balancer):
    """Cosines of the gradients raised to their usual ones; weights are 1 where G = I, as long as the usual one is 0.

    Heads: each learns from its own loss, as with PCGrad.

    Args:
        beta: step of the moving average of the cosines; 0.01 in the paper, 0.5 in other libraries.
        seed: seed of the random orders; the same seed and step give the same order.
    """

    beta: float = 0.01
    seed: int = 0
    needs: ClassVar[Needs] = "gram"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """The usual cosines, 0 at first, and the seed of the next order.

        Raises:
            ValueError: beta is not a share.
        """
        if not 0 <= self.beta <= 1:
            raise ValueError(f"GradVac.beta must be from 0 to 1. Received {self.beta}.")
        usual_TT = tf.zeros((num_tasks, num_tasks), tf.float32)
        return {"cosines": usual_TT, "seed": tf.constant([self.seed, 0], tf.int64)}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Column sums of the mixture after all turns; the average moves on by the cosines met on the way."""
        known = geometry(stats)
        num_tasks = stats.losses_T.shape[0]
        usual_TT = tf.cast(state["cosines"], tf.float64)
        orders_TT = random_orders(state["seed"], num_tasks, num_tasks)
        weights_T, met_TT, seen_TT = vaccinated_weights(known, usual_TT, orders_TT)
        usual_TT += tf.where(seen_TT, self.beta * (met_TT - usual_TT), tf.zeros_like(usual_TT))
        state_next = {
            "cosines": tf.where(seen_TT, tf.cast(usual_TT, tf.float32), state["cosines"]),
            "seed": state["seed"] + tf.constant([0, 1], tf.int64),
        }
        return weight_one_outside(weights_T, known.solved_T, stats.losses_T.dtype), state_next


def vaccinated_weights(
    known: Geometry, usual_TT: tf.Tensor, order_TT: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """GradVac for given orders.

    Args:
        known: geometry of the gradients.
        usual_TT: the usual cosine ρ of each gradient, in rows, with each other one.
        order_TT: row i is the order in which gradient i meets the others; i itself is passed over.

    Returns:
        Weights ``(T,)``; the cosines met ``(T, T)``, before the turn; and whether there was one to meet ``(T, T)``.
    """
    size = order_TT.shape[0]
    rows_T = tf.range(size)
    target_TT = tf.clip_by_value(usual_TT, -_LARGEST, _LARGEST)

    def meet(
        position: tf.Tensor, mixture_TT: tf.Tensor, met_TT: tf.Tensor, seen_TT: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        # Row i of the mixture holds the coordinates of g̃_i in unit gradients.
        other_T = tf.gather(order_TT, position, axis=1)
        chosen_TT = tf.equal(other_T[:, None], rows_T)
        products_TT = tf.matmul(mixture_TT, known.cosines_TT)
        length_T = tf.sqrt(tf.maximum(tf.reduce_sum(products_TT * mixture_TT, axis=1), 0))
        cosine_T = safe_divide(_chosen(products_TT, chosen_TT), length_T)
        cosine_T = tf.clip_by_value(cosine_T, -1, 1)
        usual_T = _chosen(target_TT, chosen_TT)
        pair_T = known.solved_T & tf.gather(known.solved_T, other_T) & tf.not_equal(other_T, rows_T) & (length_T > 0)
        turn_T = usual_T * tf.sqrt((1 - cosine_T**2) / (1 - usual_T**2)) - cosine_T
        turn_T = tf.where(pair_T & (cosine_T < usual_T), length_T * turn_T, tf.zeros_like(turn_T))
        here_TT = chosen_TT & pair_T[:, None]
        mixture_TT += tf.where(here_TT, turn_T[:, None], tf.zeros_like(mixture_TT))
        return position + 1, mixture_TT, tf.where(here_TT, cosine_T[:, None], met_TT), seen_TT | here_TT

    start_TT = tf.eye(size, dtype=tf.float64)
    start = (tf.constant(0), start_TT, tf.zeros_like(start_TT), tf.zeros_like(start_TT, tf.bool))
    _, mixture_TT, met_TT, seen_TT = tf.while_loop(lambda position, *_: position < size, meet, start)
    # Row i is in lengths of g_i, column j in unit gradients.
    weights_T = tf.linalg.matvec(mixture_TT, known.norms_T, transpose_a=True) / known.norms_T
    return weights_T, met_TT, seen_TT


def _chosen(values_TT: tf.Tensor, chosen_TT: tf.Tensor) -> tf.Tensor:
    """The one value of each row that is marked."""
    return tf.reduce_sum(tf.where(chosen_TT, values_TT, tf.zeros_like(values_TT)), axis=1)
