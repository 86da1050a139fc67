"""PCGrad: Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, algorithm 1.

Each task's gradient is projected, in a random order of the other tasks, away from every gradient that it
conflicts with; the update is the sum. The projections are linear combinations of the task gradients, so
inner products are all that is needed: row i of W starts as the i-th unit vector, and ``⟨g̃_i, g_j⟩ = (W G)_ij``.

Where we differ from the authors' code: the order is really drawn, anew for each task (theirs discards the result
of its shuffle); a task is not projected on itself; a zero gradient is passed over instead of giving 0/0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.draws import random_orders
from onehull.balance.presence import safe_divide, weight_one_when_absent
from onehull.balance.types import Balancer, Needs, State, Stats


@dataclass(frozen=True)
class PCGrad(Balancer):
    """Projection of conflicting gradients; weights are 1 where nothing conflicts (G = I).

    Args:
        seed: seed of the random orders; the same seed and step give the same order.
    """

    seed: int = 0
    needs: ClassVar[Needs] = "gram"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """The seed of the next order: a number and a count of steps."""
        del num_tasks
        return {"seed": tf.constant([self.seed, 0], tf.int64)}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Column sums of W after all projections."""
        num_tasks = stats.losses_T.shape[0]
        orders_TT = random_orders(state["seed"], num_tasks, num_tasks)
        weights_T = projected_weights(stats.gram_TT, orders_TT)
        state_next = {"seed": state["seed"] + tf.constant([0, 1], tf.int64)}
        return weight_one_when_absent(weights_T, stats.active_T), state_next


def projected_weights(gram_TT: tf.Tensor, order_TT: tf.Tensor) -> tf.Tensor:
    """Weights ``(T,)`` of PCGrad for given orders.

    Args:
        gram_TT: inner products of the gradients; rows and columns of absent tasks are 0.
        order_TT: row i is the order in which gradient i meets the others; i itself is passed over.
    """
    num_tasks = gram_TT.shape[0]
    rows_T = tf.range(num_tasks)
    mixture_TT = tf.eye(num_tasks, dtype=gram_TT.dtype)
    for position in range(num_tasks):
        other_T = order_TT[:, position]
        product_T = tf.reduce_sum(tf.gather(gram_TT, other_T) * mixture_TT, axis=1)
        norm2_T = tf.gather(tf.linalg.diag_part(gram_TT), other_T)
        conflict_T = (product_T < 0) & tf.not_equal(other_T, rows_T)
        step_T = tf.where(conflict_T, safe_divide(product_T, norm2_T), tf.zeros_like(product_T))
        mixture_TT -= step_T[:, None] * tf.one_hot(other_T, num_tasks, dtype=gram_TT.dtype)
    return tf.reduce_sum(mixture_TT, axis=0)
