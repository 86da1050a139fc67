"""One step of training: gradients, the update, and what a balancer or a broken batch needs around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from onehull.balance import Balancer
from onehull.errors import suggest
from onehull.model.balancing import Balancing
from onehull.model.gradients import Gradient, known_after
from onehull.model.gram_step import Cut, Forward, shared_variables
from onehull.model.levels import LEVELS, Step
from onehull.model.objective import TaskLosses
from onehull.model.replicas import replica, replicas, summed
from onehull.model.sharing import find_sharing
from onehull.model.weight_update import WeightUpdate

ComputeLosses = Callable[..., TaskLosses]
"""(labels, outputs, sample weights, *, training, track) → losses of the tasks."""


@dataclass(frozen=True)
class Plan:
    """How the tasks are balanced.

    Attributes:
        balancing: the balancer at work; None for the weighted sum.
        cut: the model cut at the shared representation; None where the balancer needs no gradients.
        level: where these are compared.
        sample: part of the batch that the level ``sampled`` looks at.
        groups: number of the group of each compared variable, where the balancer weighs groups apart.
    """

    balancing: Balancing | None = None
    cut: Cut | None = None
    level: str = "representation"
    sample: float = 0.125
    groups: tuple[int, ...] | None = None


def plan_balancing(
    method: Balancer | None,
    model: keras.Model,
    outputs: Mapping[str, Any],
    level: str | None,
    sample: float,
    tables: bool,
) -> Plan:
    """What a balancer needs of a model.

    Args:
        method: the balancer.
        model: a functional model.
        outputs: symbolic output of each task that has a loss.
        level: where gradients are compared; None for the default.
        sample: part of the batch that the level ``sampled`` looks at.
        tables: whether embedding tables take part in the comparison at the parameters.

    Raises:
        ValueError: the level is not known or does not fit the method, or the part is not between 0 and 1.
    """
    if level is not None and level not in LEVELS:
        raise ValueError(f"level must be one of {sorted(LEVELS)}. Received {level!r}. {suggest(level, sorted(LEVELS))}")
    if not 0 < sample <= 1:
        raise ValueError(f"sample must be a part of the batch, above 0 and at most 1. Received {sample!r}.")
    if method is None or method.needs == "losses":
        return Plan(Balancing(method, tuple(outputs)) if method is not None else None)
    sharing = find_sharing(model.input, outputs, model.output)
    if sharing is None:
        return Plan()  # tasks that share no layer have no gradients to balance: what is left is the weighted sum
    compared = shared_variables(sharing, tables=tables) or shared_variables(sharing, tables=True)
    cut = Cut(sharing, model.trainable_variables, compared, method.heads)
    groups = method.grouping([variable.path for variable in compared])
    if groups is not None and level not in (None, "parameters"):
        raise ValueError(
            f"level must be 'parameters' for {type(method).__name__}, which weighs groups of variables apart. "
            f"Received {level!r}."
        )
    default = "representation" if groups is None else "parameters"
    return Plan(Balancing(method, tuple(outputs), groups), cut, level or default, sample, groups)


@dataclass(frozen=True)
class TrainingStep:
    """How a compiled model takes in one batch.

    Attributes:
        model: the model.
        task_losses: its losses.
        plan: how its tasks are balanced.
        update: how the gradients move the weights.
    """

    model: keras.Model
    task_losses: ComputeLosses
    plan: Plan
    update: WeightUpdate

    def run(self, data: Any, number: tf.Tensor) -> dict[str, Any]:
        """Trains on a batch; returns what Keras logs.

        Args:
            data: what the dataset gives.
            number: steps before this one.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        moving = self._moving_statistics()
        outputs, loss, gradients = (
            self._plain(x, y, sample_weight) if self.plan.cut is None else self._cut((x, y, sample_weight), number)
        )
        taken = self.update.apply(loss, gradients)
        if self.update.non_finite == "skip":
            for variable, before in moving:
                variable.assign(tf.where(taken, variable.value, before))
        balancing = self.plan.balancing
        if balancing is not None and balancing.balancer.reevaluates:
            with self._unmoved():
                again = self.task_losses(y, self.model(x, training=True), sample_weight, training=True, track=False)
            balancing.observe(summed(again.stacked()))
        self._track(loss, taken, _rows(x))
        return self.model.compute_metrics(x, y, outputs, sample_weight=sample_weight)

    def _plain(self, x: Any, y: Any, sample_weight: Any) -> tuple[Any, tf.Tensor, list[Gradient]]:
        """One backward pass of the weighted loss."""
        model = self.model
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        return outputs, loss, tape.gradient(scaled, self.update.variables)

    def _cut(self, batch: Any, number: tf.Tensor) -> tuple[Any, tf.Tensor, list[Gradient]]:
        """Backward passes of each task, up to the level."""
        plan = self.plan
        assert plan.cut is not None  # noqa: S101  for the type checker: a model is only cut for a balancer
        assert plan.balancing is not None  # noqa: S101
        cut = plan.cut
        scale = tf.cast(self.model.optimizer.scale_loss(tf.ones(())), tf.float32)

        def forward(batch: Any, *, track: bool, after: tf.Tensor | None = None) -> Forward:
            x, y, sample_weight = batch
            return Forward.run(
                cut,
                x,
                lambda outputs: self.task_losses(y, outputs, sample_weight, training=True, track=track),
                scale if after is None else known_after(scale, after),
            )

        def part() -> Forward:
            with self._unmoved():
                return forward(_first_rows(batch, plan.sample), track=False)

        step = Step(partial(forward, batch, track=True), part, plan.balancing.weigh, number, plan.groups)
        done, gradients = LEVELS[plan.level](step)
        return done.outputs, tf.reduce_sum(done.losses_T) + done.penalty / replicas(), gradients

    def _track(self, loss: tf.Tensor, taken: tf.Tensor, rows: tf.Tensor) -> None:
        """Adds the loss to Keras' mean; a batch that was left out counts for nothing."""
        for metric in self.model.metrics:
            if metric.name == "loss":
                # Each replica's loss is its share of the whole; the metric adds the replicas up.
                weight = tf.where(taken, summed(tf.cast(rows, tf.float32)) / replicas(), 0.0)
                metric.update_state(tf.where(taken, loss * replicas(), 0.0), sample_weight=weight)

    def _moving_statistics(self) -> list[tuple[Any, tf.Tensor]]:
        """Variables that the forward pass itself moves, with their values; not the seeds, which only go forward."""
        moved = [v for v in self.model.non_trainable_variables if tf.as_dtype(v.dtype).is_floating]
        return [(variable, tf.identity(variable.value)) for variable in moved]

    @contextmanager
    def _unmoved(self) -> Iterator[None]:
        """Runs a forward pass that leaves the moving statistics as they were."""
        before = self._moving_statistics()
        yield
        for variable, value in before:
            variable.assign(value)


def _first_rows(batch: Any, share: float) -> Any:
    """This replica's part of the first rows of the whole batch, where replica r of R has rows r, r + R and so on."""
    number = tf.cast(summed(_rows(batch[0])), tf.float32)
    kept = tf.cast(tf.math.ceil(number * share), tf.int32)
    if replicas() > 1:
        kept = (kept - replica() + replicas() - 1) // replicas()
    return keras.tree.map_structure(lambda leaf: None if leaf is None else leaf[:kept], batch)


def _rows(x: Any) -> tf.Tensor:
    return tf.shape(next(leaf for leaf in keras.tree.flatten(x) if leaf is not None))[0]
