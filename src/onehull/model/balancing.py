"""A balancer at work in a model: its state in variables, its weights in the log, its conflicts in a matrix.

Shapes: ``T`` tasks, ``G`` groups of variables.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from onehull.balance import Balancer, State, Stats
from onehull.model.conflicts import Conflicts
from onehull.model.replicas import state_variable
from onehull.model.task_weights import TaskWeights

_PREFIX = "balancer_"


class Balancing:
    """Applies a pure balancer step by step.

    Args:
        balancer: the method.
        tasks: names of the tasks.
        groups: number of the group of each shared variable, where the method weighs groups apart.
    """

    def __init__(self, balancer: Balancer, tasks: Sequence[str], groups: Sequence[int] | None = None) -> None:
        self.balancer = balancer
        state = balancer.init_groups(len(tasks), max(groups) + 1) if groups else balancer.init(len(tasks))
        self.variables: dict[str, Any] = {
            f"{_PREFIX}{name}": state_variable(value, f"{_PREFIX}{name}") for name, value in state.items()
        }
        self.weights = TaskWeights(tasks)
        self.conflicts = Conflicts(tasks) if balancer.needs == "gram" else None
        # The replicas of a step are traced in threads of their own, in turn.
        self._weighed = threading.local()
        # A solver is hundreds of operations on a few numbers: one compiled kernel instead of as many small ones.
        self._update = tf.function(balancer.update, jit_compile=True, autograph=False)
        self._observe = tf.function(balancer.observe, jit_compile=True, autograph=False)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What is reset at the start of an epoch."""
        return [self.weights, *([self.conflicts] if self.conflicts is not None else [])]

    def weigh(self, stats: Stats) -> tf.Tensor:
        """Weights ``(T,)`` or ``(G, T)`` of this step; moves the state on.

        A step whose statistics are not finite (an overflow that mixed precision skips, or a loss that is about to
        be reported) leaves the state as it was and weighs every task 1.
        """
        weights, finite = self._moved(self._update, self.balancer.update, (stats,), stats)
        weights = tf.stop_gradient(tf.where(finite, weights, tf.ones_like(weights)))
        weights_T = tf.reduce_mean(tf.reshape(weights, [-1, stats.losses_T.shape[0]]), axis=0)
        self.weights.update_state(weights_T, stats.active_T)
        if self.conflicts is not None:
            self.conflicts.update_state(stats)
        self._weighed.stats = stats if self.balancer.reevaluates else None
        return weights

    def observe(self, losses_T: tf.Tensor) -> None:
        """Moves the state on by the losses of the batch that was weighed last, after the step."""
        stats = getattr(self._weighed, "stats", None)
        self._weighed.stats = None
        if stats is None:
            return
        self._moved(
            lambda *args: (None, self._observe(*args)),
            lambda *args: (None, self.balancer.observe(*args)),
            (losses_T, stats),
            stats._replace(losses_T=losses_T + stats.losses_T),
        )

    def _moved(
        self, compiled: Callable[..., Any], eager: Callable[..., Any], arguments: tuple[Any, ...], checked: Stats
    ) -> tuple[Any, tf.Tensor]:
        """Calls a pure function with the state, and keeps the state that it returns where the statistics are finite."""
        state: State = {name.removeprefix(_PREFIX): variable.value() for name, variable in self.variables.items()}
        finite = tf.reduce_all(tf.math.is_finite(checked.losses_T))
        if checked.gram_TT is not None:
            finite &= tf.reduce_all(tf.math.is_finite(checked.gram_TT))
        function = eager if tf.executing_eagerly() else compiled
        answer, new_state = function(*arguments, state)
        for name, variable in self.variables.items():
            key = name.removeprefix(_PREFIX)
            variable.assign(tf.where(finite, new_state[key], state[key]))
        return answer, finite
