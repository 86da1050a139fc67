"""Dynamic weight average: Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, eq. 7.

``r_k = L̄_k(t−1) / L̄_k(t−2)``, ``w = K · softmax(r / temperature)``, with L̄ the mean loss of a window.

The paper's window is an epoch. Ranking models see their data once or a few times, so here it is a number of steps,
and a task's mean is taken over the steps in which it had labels. A window in which a task had none leaves the
task's two means as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from onehull.balance.presence import active_softmax, num_active, safe_divide, weight_one_when_absent
from onehull.balance.types import Balancer, Needs, State, Stats


@dataclass(frozen=True)
class Dwa(Balancer):
    """Tasks whose loss falls slowest weigh most; weights of the active tasks sum to their number.

    Args:
        temperature: 2 in the paper; larger is nearer to equal weights.
        window_steps: steps in a window.
    """

    temperature: float = 2.0
    window_steps: int = 1000
    needs: ClassVar[Needs] = "losses"

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """Sums of the running window, and the means of the last two complete ones (0 while there is none)."""
        zeros_T = tf.zeros((num_tasks,), tf.float32)
        return {"sum": zeros_T, "count": zeros_T, "last": zeros_T, "before": zeros_T, "step": tf.zeros((), tf.int32)}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights from the last two complete windows; equal weights until a task has both."""
        dtype = stats.losses_T.dtype
        ratio_T = safe_divide(state["last"], state["before"])
        ratio_T = tf.where((state["before"] > 0) & (state["last"] > 0), ratio_T, tf.ones_like(ratio_T))
        scores_T = tf.cast(ratio_T, dtype) / tf.constant(self.temperature, dtype)
        weights_T = num_active(stats.active_T, dtype) * active_softmax(scores_T, stats.active_T)
        return weight_one_when_absent(weights_T, stats.active_T), self._advance(stats, state)

    def _advance(self, stats: Stats, state: State) -> dict[str, tf.Tensor]:
        """Adds this step to the window, and closes the window when it is full."""
        active_T = tf.cast(stats.active_T, tf.float32)
        sum_T = state["sum"] + active_T * tf.cast(stats.losses_T, tf.float32)
        count_T = state["count"] + active_T
        step = state["step"] + 1
        full = tf.equal(step, self.window_steps)
        renew_T = full & (count_T > 0)
        return {
            "sum": tf.where(full, tf.zeros_like(sum_T), sum_T),
            "count": tf.where(full, tf.zeros_like(count_T), count_T),
            "last": tf.where(renew_T, safe_divide(sum_T, count_T), state["last"]),
            "before": tf.where(renew_T, state["last"], state["before"]),
            "step": tf.where(full, 0, step),
        }
