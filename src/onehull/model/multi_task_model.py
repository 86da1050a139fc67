"""`keras.Model` with missing labels and task balancing; everything else is Keras."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from onehull.balance import Stats, balancer_config, get_balancer
from onehull.model.backend import require_tensorflow
from onehull.model.balancing import Balancing
from onehull.model.compile_arguments import (
    losses_by_task,
    row_weights_by_task,
    sentinels_by_task,
    task_metrics,
    weights_by_task,
)
from onehull.model.conflicts import Conflicts
from onehull.model.costs import costs_lines, output_tensors, parameter_costs
from onehull.model.coverage import coverage_config
from onehull.model.embedding_table import tables_of
from onehull.model.normalizer import check_normalizer
from onehull.model.objective import Objective, TaskLosses, by_task
from onehull.model.replicas import replicas, summed
from onehull.model.task_metrics import TaskMetrics
from onehull.model.training_step import TrainingStep, plan_balancing
from onehull.model.weight_update import NonFinite, WeightUpdate, check_non_finite
from onehull.optimizers import get_embedding_optimizer


@keras.saving.register_keras_serializable(package="onehull")
class MultiTaskModel(keras.Model):
    """A functional Keras model with one named output a task.

    It is built, compiled, trained, evaluated and saved as any functional model. What it adds:

    - Labels may be missing: NaN, or a sentinel given to ``compile(missing=-1)``. A row without a label of a task
      adds nothing to that task's loss, gradient or metrics; a batch without any gives a loss of 0 and a zero gradient.
    - ``compile(balancer="pcgrad")`` weighs the tasks while training, see `onehull.balance`. A balancer that needs the
      task gradients takes them at the representation that the tasks share, which is found from the graph.
    - ``summary()`` also tells what sharing saves.

    With all labels present and no balancer, losses, gradients and metrics are those of `keras.Model`. The history
    holds ``loss`` (the weighted objective), ``TASK_loss`` (mean over labelled rows, not weighted), and with a balancer
    ``TASK_weight``.

    Args:
        inputs: symbolic inputs, as for `keras.Model`.
        outputs: symbolic outputs; a dict names the tasks, otherwise the output layers' names do.
        name: name of the model.
        **kwargs: as for `keras.Model`.
    """

    _objective: Objective | None = None
    _balancing: Balancing | None = None
    _training_step: TrainingStep | None = None
    _task_metrics: TaskMetrics | None = None

    # The signature is that of Keras' Functional: Keras compares them to decide whether it can save the graph.
    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        require_tensorflow()
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(output_tensors(self))

    def compile(  # noqa: D417  Keras documents its own arguments
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
        *,
        embedding_optimizer: Any = None,
        clip_norm: float | None = None,
        balancer: Any = None,
        level: str | None = None,
        sample: float = 0.125,
        tables: bool = False,
        non_finite: NonFinite = "stop",
        missing: float | Mapping[str, float] | None = None,
        normalizer: str = "coverage",
        coverage: Mapping[str, float] | None = None,
    ) -> None:
        """Configures training as Keras does.

        Args:
            embedding_optimizer: what moves the rows of the embedding tables that a batch looks up, and no others: a
                `onehull.optimizers.EmbeddingOptimizer` or the name of one. Default: `optimizer` moves them as Keras
                does, which for most optimizers costs as much as there are rows.
            clip_norm: largest norm of all gradients together.
            balancer: a `onehull.balance.Balancer`, the name of one, or None for the weighted sum.
            level: where a balancer compares the gradients of the tasks, see `onehull.model.levels`. Default:
                ``representation``, or ``parameters`` for a method that weighs groups of variables apart.
            sample: part of the batch that the level ``sampled`` looks at.
            tables: whether embedding tables take part in a comparison at the parameters.
            non_finite: what happens to a batch whose loss or gradient is not finite: ``stop`` takes it in, so that the
                loss is reported (`onehull.train.FiniteLoss` then stops); ``skip`` leaves it out of weights and means.
            missing: value that stands for a missing label, for all tasks or by task. NaN always does.
            normalizer: what a task's summed loss is divided by, see `onehull.model.normalizer`. A Loss object with
                ``reduction="sum"`` or ``"mean_with_sample_weight"`` keeps its own.
            coverage: share of labelled rows of each task, where it is known; otherwise it is followed in training.

        Raises:
            ValueError: a name is not that of an output, or an option is not known or does not fit another.
        """
        check_normalizer(normalizer)
        super().compile(
            optimizer=optimizer,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )
        method = get_balancer(balancer)
        self.embedding_optimizer = get_embedding_optimizer(embedding_optimizer)
        names = self.task_names
        losses = losses_by_task(loss, names)
        sentinels = sentinels_by_task(missing, names)
        weights = weights_by_task(loss_weights, names)
        self.loss = loss
        self._objective = Objective(
            losses, weights, sentinels, normalizer, coverage, skip_non_finite=check_non_finite(non_finite) == "skip"
        )
        self._task_metrics = task_metrics(metrics, weighted_metrics, names, sentinels)
        outputs = output_tensors(self)
        plan = plan_balancing(method, self, {task: outputs[task] for task in losses}, level, sample, tables)
        self._balancing = plan.balancing
        update = WeightUpdate(
            self.optimizer,
            self.embedding_optimizer,
            self.trainable_variables,
            self.tables,
            clip_norm,
            non_finite,
        )
        self._training_step = TrainingStep(self, self._task_losses, plan, update)
        self._user_compile = {
            "embedding_optimizer": self.embedding_optimizer, "clip_norm": clip_norm,
            "loss": loss, "loss_weights": loss_weights, "metrics": metrics, "weighted_metrics": weighted_metrics,
            "balancer": balancer_config(method), "level": level, "sample": sample, "tables": tables,
            "non_finite": non_finite, "missing": missing, "normalizer": normalizer,
            "coverage": coverage_config(coverage),
        }  # fmt: skip

    @property
    def metrics(self) -> list[Any]:
        """Loss, task losses, task weights and compiled metrics, in this order."""
        own: list[Any] = []
        if self._objective is not None:
            own.extend(self._objective.trackers.values())
        if self._balancing is not None:
            own.extend(self._balancing.metrics)
        if self._task_metrics is not None:
            own.append(self._task_metrics)
        return [*super().metrics, *own]

    @property
    def training_state(self) -> dict[str, Any]:
        """Variables beside the weights and the optimizer that training continues from, by name."""
        state: dict[str, Any] = {}
        if self._objective is not None:
            state.update(self._objective.variables)
        if self._balancing is not None:
            state.update(self._balancing.variables)
        return state

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The weighted sum of the task losses, and the regularisation losses."""
        del x
        # Read before a sum gives other replicas their turn: Keras has one list for all of them.
        penalties = [tf.reduce_sum(tf.cast(penalty, tf.float32)) for penalty in self.losses]
        losses = self._task_losses(y, y_pred, sample_weight, training=training)
        losses_T = losses.stacked()
        if training and self._balancing is not None and self._balancing.balancer.needs == "losses":
            stats = Stats(summed(tf.stop_gradient(losses_T)), losses.active_T, None, self._step)
            losses_T *= self._balancing.weigh(stats)
        return tf.reduce_sum(losses_T) + tf.add_n([tf.zeros(()), *penalties]) / replicas()

    def loss_totals(self, labels: Mapping[str, Any], predictions: Mapping[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum of each task's losses over the labelled rows of a batch, and the number of those rows, ``(T,)`` each.

        Args:
            labels: labels of every task with a loss.
            predictions: outputs of the model for the same rows.
        """
        return self._require_objective().totals(labels, predictions)

    @property
    def not_finite(self) -> dict[str, int]:
        """Steps of training at which a task's loss was not finite, by task; none in a sound training."""
        return self._require_objective().not_finite

    @property
    def first_not_finite(self) -> dict[str, int]:
        """Batches of training before the first one at which a task's loss was not finite, by task."""
        return self._require_objective().first_not_finite

    @property
    def batches_seen(self) -> int:
        """Batches of training so far."""
        return self._require_objective().batches_seen

    @property
    def conflicts(self) -> Conflicts | None:
        """Mean cosines of the tasks' gradients since the epoch began; None where no balancer compares gradients."""
        return self._balancing.conflicts if self._balancing is not None else None

    @property
    def task_weights(self) -> dict[str, float]:
        """The static weight of every task that has a loss."""
        return dict(self._require_objective().weights)

    @property
    def tables(self) -> list[Any]:
        """Variables of the embedding tables."""
        return tables_of(self.layers)

    def build_optimizers(self) -> None:
        """Makes the optimizers' variables; made before the first step, the step is traced once, not twice."""
        if self._training_step is not None:
            with self.distribute_strategy.scope():
                self._training_step.update.build()

    def make_train_function(self, force: bool = False) -> Any:
        """Compiles the training step."""
        self.build_optimizers()
        return super().make_train_function(force)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of training, see `onehull.model.training_step`."""
        if self._training_step is None or not self.trainable_variables:
            return super().train_step(data)
        return self._training_step.run(data, self._step)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Updates the compiled metrics on labelled rows, and returns everything for the log."""
        del x
        if self._task_metrics is not None:
            names = self.task_names
            self._task_metrics.update_state(
                by_task(y, names, "labels"),
                by_task(y_pred, names, "outputs"),
                row_weights_by_task(sample_weight, names),
            )
        return self.get_metrics_result()

    def summary(self, *args: Any, print_fn: Callable[..., Any] | None = None, **kwargs: Any) -> None:
        """Prints Keras' summary, then what sharing saves."""
        super().summary(*args, print_fn=print_fn, **kwargs)
        text = "\n".join(costs_lines(parameter_costs(self)))
        if print_fn is None:
            sys.stdout.write(f"{text}\n")
        else:
            print_fn(text)

    def get_compile_config(self) -> dict[str, Any]:
        """Everything that `compile` was given, for saving."""
        config = super().get_compile_config()
        if not config:
            return {}
        own = {key: keras.saving.serialize_keras_object(value) for key, value in self._user_compile.items()}
        return {**config, **own}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as it was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.build_optimizers()

    @property
    def _step(self) -> tf.Tensor:
        return tf.cast(self.optimizer.iterations, tf.int64)

    def _require_objective(self) -> Objective:
        if self._objective is None:
            raise ValueError("The model must be compiled with a loss first: model.compile(loss={...}).")
        return self._objective

    def _task_losses(
        self, y: Any, y_pred: Any, sample_weight: Any, *, training: bool, track: bool = True
    ) -> TaskLosses:
        objective, names = self._require_objective(), self.task_names
        labels = by_task(y, names, "labels")
        absent = [task for task in objective.tasks if task not in labels]
        if absent:
            raise ValueError(f"labels must hold every task with a loss. Missing: {absent}. Received: {list(labels)}.")
        predictions = by_task(y_pred, names, "outputs")
        weights = row_weights_by_task(sample_weight, names)
        return objective(labels, predictions, weights, training=training, track=track)
