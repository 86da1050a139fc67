"""The last layer of a task: from its tower to a prediction on the label's own scale, in float32.

Predictions stay float32 under mixed precision: float16 holds only three digits of a probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from onehull.model.seeds import layer_seed

_LOG_RANGE = (-5.0, 20.0)
"""Range of log(1 + y) that is turned back; exp(20) is half a thousand million."""


class DenseHead(keras.layers.Layer):
    """Base of the heads: a dense layer in float32.

    Args:
        units: width.
        bias: initial bias, one number or one for each unit.
        seed: seed of the initial kernel, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, units: int, bias: float | Sequence[float], seed: int | None, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.seed = seed
        self._units = units
        self._dense = keras.layers.Dense(
            units,
            kernel_initializer=keras.initializers.GlorotUniform(seed=layer_seed(seed, self.name)),
            bias_initializer=keras.initializers.Constant(bias) if bias else "zeros",
            dtype="float32",
            name="dense",
        )

    @property
    def reads_duration(self) -> bool:
        """Whether the inputs are the representation and the encoded duration of what is watched."""
        return False

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        self._dense.build(input_shape)
        super().build(input_shape)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, units)``."""
        return (*input_shape[:-1], self._units)


@keras.saving.register_keras_serializable(package="onehull")
class BinaryHead(DenseHead):
    """A probability ``(B, 1)``.

    Args:
        prior: share of positive labels in training; the head starts there.
        seed: seed of the initial kernel, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, prior: float | None = None, seed: int | None = None, **kwargs: Any) -> None:
        self.prior = prior
        super().__init__(1, logit(prior) if prior is not None else 0.0, seed, **kwargs)

    def call(self, inputs: Any) -> Any:
        """Sigmoid of a linear function of ``(B, width)``."""
        # Nothing may stand behind the sigmoid: Keras finds the logits there for a cross-entropy that cannot overflow.
        return ops.sigmoid(self._dense(inputs))

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "prior": self.prior, "seed": self.seed}


@keras.saving.register_keras_serializable(package="onehull")
class RegressionHead(DenseHead):
    """A number ``(B, 1)`` on the scale of the label.

    Args:
        transform: ``log1p`` predicts z = log(1 + y) and gives exp(z) − 1; ``none`` gives a linear function.
        prior: mean of the (transformed) labels in training; the head starts there.
        seed: seed of the initial kernel, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self,
        transform: Literal["none", "log1p"] = "none",
        prior: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.transform, self.prior = transform, prior
        super().__init__(1, prior or 0.0, seed, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Applies the head to ``(B, width)``."""
        values = self._dense(inputs)
        if self.transform == "none":
            return values
        clipped = ops.clip(values, *_LOG_RANGE)
        if training:
            # The gradient passes the clip, so that a value outside the range is pulled back instead of left there.
            clipped = values + ops.stop_gradient(clipped - values)
        return ops.expm1(clipped)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "transform": self.transform, "prior": self.prior, "seed": self.seed}


@keras.saving.register_keras_serializable(package="onehull")
class MulticlassHead(DenseHead):
    """Probabilities of the classes ``(B, classes)``.

    Args:
        classes: number of classes.
        seed: seed of the initial kernel, together with the layer's name.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, classes: int, seed: int | None = None, **kwargs: Any) -> None:
        self.classes = classes
        super().__init__(classes, 0.0, seed, **kwargs)

    def call(self, inputs: Any) -> Any:
        """Softmax of a linear function of ``(B, width)``."""
        return ops.softmax(self._dense(inputs))

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "classes": self.classes, "seed": self.seed}


def logit(share: float) -> float:
    """Log odds of a share; shares of 0 and 1 are taken as one in a million away."""
    share = min(max(share, 1e-6), 1 - 1e-6)
    return math.log(share / (1 - share))
