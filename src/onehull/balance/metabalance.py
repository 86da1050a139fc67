"""MetaBalance: He et al., "Improving Multi-Task Recommendations via Adapting Gradient Magnitudes", WWW 2022.

For each variable, ``m_k`` is a moving average of the norm of task k's gradient there, and with the target task 0 the
gradient of another task is multiplied by ``relax·m_0/m_k + (1 − relax)``.

Where we differ from the authors' code: the averages start without a bias towards 0, and a task's moves only in steps
in which it has labels; a variable that either of the two tasks has no gradient at keeps weight 1, where theirs
divides by 0 or leaves out all further variables; sparse gradients are as good as dense ones. Where no groups are
asked for, all that is shared counts as one variable.

Shapes: ``T`` tasks, ``G`` variables; ``…`` is G or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import tensorflow as tf

from onehull.balance.presence import safe_divide, weight_one_when_absent
from onehull.balance.types import Balancer, Needs, State, Stats, chosen_gram


@dataclass(frozen=True)
class MetaBalance(Balancer):
    """Norms are brought near the target task's, variable by variable; 1 where they are equal.

    The layers of a single task receive the gradient of its own loss.

    Args:
        target: position of the task that the others are measured by.
        relax: how near: 0 leaves the gradients, 1 makes all norms equal.
        decay: of the moving averages of the norms.
        strategy: ``shrink`` touches the gradients that are longer than the target's (A in the paper), ``enlarge`` the
            shorter ones (B), ``both`` all of them (C).
    """

    target: int = 0
    relax: float = 0.7
    decay: float = 0.9
    strategy: Literal["shrink", "enlarge", "both"] = "both"
    needs: ClassVar[Needs] = "gram"

    def grouping(self, variables: Sequence[str]) -> tuple[int, ...]:
        """Each variable is a group."""
        return tuple(range(len(variables)))

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        """Decayed sums of the norms, and of the ones that they are divided by.

        Raises:
            ValueError: the target is not a task, or the strategy is not known.
        """
        return self._zeros(num_tasks, [num_tasks])

    def init_groups(self, num_tasks: int, num_groups: int) -> dict[str, tf.Tensor]:
        """The same for each variable, ``(G, T)``."""
        return self._zeros(num_tasks, [num_groups, num_tasks])

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Weights from the averages that this step is in, ``(…, T)``."""
        norms_T = tf.sqrt(tf.maximum(tf.cast(tf.linalg.diag_part(chosen_gram(stats)), tf.float32), 0))
        state_next = {
            name: tf.where(stats.active_T, self.decay * state[name] + (1 - self.decay) * value_T, state[name])
            for name, value_T in (("sum", norms_T), ("mass", tf.ones_like(norms_T)))
        }
        mean_T = safe_divide(state_next["sum"], state_next["mass"])
        ratio_T = safe_divide(mean_T[..., self.target, tf.newaxis], mean_T)
        weights_T = self.relax * ratio_T + (1 - self.relax)
        weights_T = tf.where(self._touched(ratio_T), weights_T, tf.ones_like(weights_T))
        return weight_one_when_absent(tf.cast(weights_T, stats.losses_T.dtype), stats.active_T), state_next

    def _touched(self, ratio_T: tf.Tensor) -> tf.Tensor:
        """Whether the strategy moves a gradient; the ratio is 0 where one of the two norms is."""
        if self.strategy == "shrink":
            return (ratio_T > 0) & (ratio_T < 1)
        return ratio_T > (1 if self.strategy == "enlarge" else 0)

    def _zeros(self, num_tasks: int, shape: Sequence[int]) -> dict[str, tf.Tensor]:
        if not 0 <= self.target < num_tasks:
            rule = f"must be the position of one of {num_tasks} tasks, counted from 0"
            raise ValueError(f"MetaBalance.target {rule}. Received {self.target}.")
        if self.strategy not in ("shrink", "enlarge", "both"):
            raise ValueError(f"MetaBalance.strategy must be shrink, enlarge or both. Received {self.strategy!r}.")
        return {"sum": tf.zeros(shape, tf.float32), "mass": tf.zeros(shape, tf.float32)}
