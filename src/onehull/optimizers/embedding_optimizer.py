"""What the optimizers of embedding tables have in common: a step costs what the rows cost that the batch looked up.

Shapes: ``R`` rows of a variable, ``U`` rows that a batch moves, ``d`` width of a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from onehull.optimizers.rows import RowGradient, read_rows, summed_once, summed_rows, write_rows

_REFUSED = {
    "weight_decay": "Use embedding_l2 of the model, which decays the rows that a batch looks up.",
    "use_ema": "Average the dense weights, through the optimizer of the dense part.",
    "gradient_accumulation_steps": "Use a larger batch.",
    "loss_scale_factor": "Use float32 or bfloat16, which need none.",
}
"""Arguments of Keras' optimizers whose meaning is a change of every row at every step, with what to do instead."""

_KEPT = ("name", "learning_rate", "clipnorm", "clipvalue", "global_clipnorm")


class Slot(NamedTuple):
    """Numbers that a method keeps beside a variable, float32.

    Attributes:
        shape: ``(R, d)``, or ``(R,)`` for one number a row.
        initial: the value that all of them start with.
    """

    shape: tuple[int, ...]
    initial: float = 0.0


class EmbeddingOptimizer(keras.optimizers.Optimizer, ABC):
    """An optimizer for tables of which a batch looks up a few rows.

    The gradient of such a table is a `tf.IndexedSlices`, in which a row may come many times: its gradients are added
    up first, then the method moves it once. All other rows keep their values and their slots, bit for bit, and are
    neither read nor written: time and memory of a step do not depend on their number. A variable whose gradient is
    dense is updated as a whole, each row by the same rule, so that one such optimizer can also train a whole model.

    It is a Keras optimizer (learning-rate schedules, `fit`, saving), and adds the argument ``unique`` of `apply`.
    ``clipnorm``, ``clipvalue`` and ``global_clipnorm`` look at the summed gradients of the rows. Calculation and slots
    are float32, whatever the gradient is.

    A method is a subclass with two pure functions, `slots` and `move`.

    Args:
        learning_rate: a number, a Keras schedule, or a function without arguments.
        name: name of the optimizer.
        clipnorm: largest norm of each variable's gradient.
        clipvalue: largest absolute value in a gradient.
        global_clipnorm: largest norm of all gradients together.
        **refused: arguments of Keras' optimizers that would change every row at every step.

    Raises:
        ValueError: an argument is refused or not known, or more than one of the three kinds of clipping is given.
    """

    def __init__(
        self,
        learning_rate: Any,
        *,
        name: str | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        **refused: Any,
    ) -> None:
        for argument, value in refused.items():
            if argument in _REFUSED and value not in (None, False):
                reason = "is not offered: it would change all rows of a table at every step"
                raise ValueError(f"{type(self).__name__}.{argument} {reason}. Received {value!r}. {_REFUSED[argument]}")
        clipping = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        unknown = {argument: value for argument, value in refused.items() if argument not in _REFUSED}
        super().__init__(learning_rate=learning_rate, name=name, **clipping, **unknown)
        self._rows_are_unique = False

    @abstractmethod
    def slots(self, shape: tuple[int, ...]) -> dict[str, Slot]:
        """What the method keeps beside a variable, by name.

        Args:
            shape: of the variable, ``(R, …)``.
        """

    @abstractmethod
    def move(
        self, values_Ud: tf.Tensor, gradient_Ud: tf.Tensor, slots: Mapping[str, tf.Tensor], learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """One step of some rows, or of a whole variable; a pure function.

        Args:
            values_Ud: float32, the rows.
            gradient_Ud: float32, their gradient.
            slots: float32, the slots of these rows.
            learning_rate: float32 scalar.

        Returns:
            The new rows and their new slots.
        """

    def build(self, variables: Sequence[Any]) -> None:
        """Makes the slots of variables; one of gigabytes is filled in place, without a second one beside it."""
        if self.built:
            return
        super().build(list(variables))
        self._slots = [self._make_slots(variable) for variable in variables]

    def _make_slots(self, variable: Any) -> list[keras.Variable]:
        with self._distribution_strategy.extended.colocate_vars_with(getattr(variable, "value", variable)):
            return [
                self.add_variable(
                    slot.shape,
                    initializer=_fill(slot.initial),
                    dtype="float32",
                    name=f"{variable.path.replace('/', '_')}_{name}",
                )
                for name, slot in self.slots(tuple(variable.shape)).items()
            ]

    def slots_of(self, variable: Any) -> dict[str, keras.Variable]:
        """The slots of a variable that the optimizer was built with, by name."""
        names = self.slots(tuple(variable.shape))
        return dict(zip(names, self._slots[self._get_variable_index(variable)], strict=True))

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None, *, unique: bool = False
    ) -> None:
        """Updates variables.

        Where it is called in the cross-replica context of a `tf.distribute` strategy, the gradients must already be
        summed over the replicas; in a replica's context they are summed here, as Keras' optimizers do.

        Args:
            grads: gradients, dense or `tf.IndexedSlices`, in the order of the variables.
            trainable_variables: the variables. Default: those that the optimizer was built with.
            unique: the promise that no row comes twice in a gradient, which saves adding up. Several replicas that sum
                their gradients here cannot keep it, so that it is not counted on there.

        Raises:
            ValueError: a table has a constraint, which would read all of its rows at every step.
        """
        for gradient, variable in zip(grads, trainable_variables or self._trainable_variables, strict=False):
            if isinstance(gradient, tf.IndexedSlices) and getattr(variable, "constraint", None) is not None:
                rule = "must have no constraint: it would read all rows of the table at every step"
                raise ValueError(f"{variable.path} {rule}. Received {variable.constraint!r}. Remove the constraint.")
        with self._promise(unique):
            super().apply(grads, trainable_variables)

    @contextmanager
    def _promise(self, unique: bool) -> Iterator[None]:
        """Whether rows are unique, while a step is traced."""
        alone = tf.distribute.in_cross_replica_context() or tf.distribute.get_strategy().num_replicas_in_sync == 1
        self._rows_are_unique = unique and alone
        try:
            yield
        finally:
            self._rows_are_unique = False

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable on one device.

        Args:
            gradient: dense, or `tf.IndexedSlices` that may hold a row many times.
            variable: a `tf.Variable`, or the Keras variable around it.
            learning_rate: scalar.
        """
        value = variable.value if isinstance(variable, keras.Variable) else variable
        slots = {name: slot.value for name, slot in self.slots_of(variable).items()}
        learning_rate = tf.cast(learning_rate, tf.float32)
        if isinstance(gradient, tf.IndexedSlices):
            self._move_rows(self._summed(gradient), value, slots, learning_rate)
        else:
            self._move_all(gradient, value, slots, learning_rate)

    def _move_rows(self, gradient: RowGradient, variable: Any, slots: Mapping[str, Any], rate: tf.Tensor) -> None:
        rows_U = gradient.rows_U
        before = {name: read_rows(slot, rows_U) for name, slot in slots.items()}
        values_Ud, after = self.move(read_rows(variable, rows_U), gradient.values_Ud, before, rate)
        for name, slot in slots.items():
            write_rows(slot, rows_U, after[name])
        write_rows(variable, rows_U, values_Ud)

    def _move_all(self, gradient: tf.Tensor, variable: Any, slots: Mapping[str, Any], rate: tf.Tensor) -> None:
        before = {name: tf.convert_to_tensor(slot) for name, slot in slots.items()}
        values, after = self.move(tf.cast(variable, tf.float32), tf.cast(gradient, tf.float32), before, rate)
        for name, slot in slots.items():
            slot.assign(after[name])
        variable.assign(tf.cast(values, variable.dtype))

    def _summed(self, gradient: tf.IndexedSlices) -> RowGradient:
        return _as_it_is(gradient) if self._rows_are_unique else summed_rows(gradient)

    def _once(self, gradient: tf.IndexedSlices) -> RowGradient:
        return _as_it_is(gradient) if self._rows_are_unique else summed_once(gradient)

    def _clip_gradients(self, grads: Sequence[Any]) -> list[Any]:
        """Clips the summed gradients of rows: the norm of the parts of a sum is not that of the sum."""
        if not (self.clipnorm or self.clipvalue or self.global_clipnorm):
            return list(grads)
        found = [self._once(g) if isinstance(g, tf.IndexedSlices) else g for g in grads]
        clipped = super()._clip_gradients([g.values_Ud if isinstance(g, RowGradient) else g for g in found])
        return [
            tf.IndexedSlices(values, g.rows_U) if isinstance(g, RowGradient) else values
            for g, values in zip(found, clipped, strict=True)
        ]

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        """As in Keras, and also from a cross-replica context, where Keras' own cannot be called."""
        if not tf.distribute.in_cross_replica_context():
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        values = [v.value if isinstance(v, keras.Variable) else v for v in trainable_variables]
        pairs = list(zip(grads, values, strict=True))
        self._distributed_tf_update_step(tf.distribute.get_strategy(), pairs, learning_rate)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {name: value for name, value in super().get_config().items() if name in _KEPT}


def _as_it_is(gradient: tf.IndexedSlices) -> RowGradient:
    return RowGradient(gradient.indices, tf.cast(gradient.values, tf.float32))


def _fill(value: float) -> Any:
    """An initializer that makes no tensor beside the one that it returns."""
    return lambda shape, dtype: tf.fill(tuple(shape), tf.cast(value, dtype))
