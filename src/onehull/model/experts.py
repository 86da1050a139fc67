"""Experts: several small networks with the same shape, held and computed as one.

Shapes: ``B`` batch, ``n`` experts, ``D`` width of the input, ``d`` width of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from onehull.model.replicas import batch_normalization
from onehull.model.seeds import layer_seed

NORMS = ("none", "batch", "layer")


@keras.saving.register_keras_serializable(package="onehull")
class Experts(keras.layers.Layer):
    """n networks of dense layers, each expert with weights of its own; ``(B, D)`` → ``(B, n, d)``.

    Each layer is linear → normalisation → activation → dropout. Its kernels are one variable ``(n, in, out)``, so that
    a layer of all experts is one matrix product (measured on CPU: as fast as n dense layers, and a graph n times
    smaller). Where n experts read different things, the input is a list of n tensors ``(B, D)``.

    Every expert is drawn with a seed of its own, from its name: experts that start alike stay alike.

    Args:
        names: of the experts, for seeds and reports.
        widths: units of each layer.
        activation: name of a Keras activation.
        norm: normalisation before each activation, of each expert by itself: ``none``, ``batch`` or ``layer``. It has
            a bias of its own, so that the layer has none.
        dropout: share of units left out in training after each layer.
        l2: penalty on the kernels, ``l2 · Σ kernel²``.
        level: which level of a deep mixture this is, counted from the input; for reports.
        seed: seed of the initial kernels and of dropout, together with the names of layer and expert; None draws one.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: there is no expert, two have one name, there is no layer, or the normalisation is not known.
    """

    def __init__(
        self,
        names: Sequence[str],
        widths: Sequence[int],
        activation: str = "relu",
        norm: Literal["none", "batch", "layer"] = "none",
        dropout: float = 0.0,
        l2: float = 0.0,
        level: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_names(self.name, names)
        if not widths:
            raise ValueError(f"{self.name}.widths must hold the units of at least one layer. Received {widths!r}.")
        if norm not in NORMS:
            raise ValueError(f"{self.name}.norm must be one of {', '.join(NORMS)}. Received {norm!r}.")
        self.names, self.widths, self.level = tuple(names), tuple(widths), level
        self.activation, self.norm, self.dropout, self.l2, self.seed = activation, norm, dropout, l2, seed
        self._activate = keras.activations.get(activation)
        places = range(1, len(self.widths) + 1)
        self._norms = [self._normalisation(place) for place in places] if norm != "none" else []
        self._drops = [self._dropout(place) for place in places] if dropout else []
        self._kernels: list[Any] = []
        self._biases: list[Any] = []
        self._scales: list[Any] = []

    def _normalisation(self, place: int) -> keras.layers.Layer:
        if self.norm == "batch":
            return batch_normalization(dtype=self.dtype_policy, name=f"norm_{place}")
        # Its scale would be common to all experts: ours stands in `_scales`.
        return keras.layers.LayerNormalization(center=False, scale=False, dtype=self.dtype_policy, name=f"norm_{place}")

    def _dropout(self, place: int) -> keras.layers.Layer:
        seed = layer_seed(self.seed, f"{self.name}/dropout_{place}")
        return keras.layers.Dropout(self.dropout, seed=seed, dtype=self.dtype_policy, name=f"dropout_{place}")

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        width, count = _shape_of_one(input_shape)[-1], len(self.names)
        for place, units in enumerate(self.widths, start=1):
            self._kernels.append(
                self.add_weight(
                    shape=(count, width, units),
                    initializer=self._initial_kernels(place),
                    regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
                    name=f"kernel_{place}",
                )
            )
            if self.norm == "batch":
                self._norms[place - 1].build((None, count * units))
            else:
                self._biases.append(self.add_weight(shape=(count, 1, units), initializer="zeros", name=f"bias_{place}"))
            if self.norm == "layer":
                self._norms[place - 1].build((count, None, units))
                scale = self.add_weight(shape=(count, 1, units), initializer="ones", name=f"scale_{place}")
                self._scales.append(scale)
            width = units
        super().build(input_shape)

    def _initial_kernels(self, place: int) -> Any:
        """Glorot's uniform kernels, each as wide as one expert's layer asks."""
        seeds = [layer_seed(self.seed, f"{self.name}/{name}/{place}") for name in self.names]

        def draw(shape: Any, dtype: Any = None) -> Any:
            return ops.stack([keras.initializers.GlorotUniform(seed=seed)(shape[1:], dtype) for seed in seeds])

        return draw

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Applies every expert to ``(B, D)``, or the experts to one each of n tensors ``(B, D)``."""
        own = isinstance(inputs, (list, tuple))
        # Experts first: a product of matrices for each of them, without moving anything between the layers.
        outputs_nBd = ops.stack(inputs) if own else ops.expand_dims(inputs, 0)
        for place, kernel_nDd in enumerate(self._kernels):
            outputs_nBd = self._normalise(place, ops.matmul(outputs_nBd, kernel_nDd), training)
            outputs_nBd = self._activate(outputs_nBd)
            if self._drops:
                outputs_nBd = self._drops[place](outputs_nBd, training=training)
        return ops.transpose(outputs_nBd, (1, 0, 2))

    def _normalise(self, place: int, values_nBd: Any, training: bool | None) -> Any:
        if self.norm == "none":
            return values_nBd + self._biases[place]
        if self.norm == "layer":
            return self._norms[place](values_nBd) * self._scales[place] + self._biases[place]
        count, units = len(self.names), self.widths[place]
        # Keras keeps statistics of one axis: experts and units become one.
        rows = ops.reshape(ops.transpose(values_nBd, (1, 0, 2)), (-1, count * units))
        rows = self._norms[place](rows, training=training)
        return ops.transpose(ops.reshape(rows, (-1, count, units)), (1, 0, 2))

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """``(B, n, d)``."""
        return (_shape_of_one(input_shape)[0], len(self.names), self.widths[-1])

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {
            "names": list(self.names), "widths": list(self.widths), "activation": self.activation, "norm": self.norm,
            "dropout": self.dropout, "l2": self.l2, "level": self.level, "seed": self.seed,
        }  # fmt: skip
        return {**super().get_config(), **own}


def require_names(place: str, names: Sequence[str]) -> None:
    """Refuses a mixture of nothing, and names that tell two experts not apart.

    Args:
        place: name of the layer.
        names: of its experts.

    Raises:
        ValueError: there is no name, or one stands twice.
    """
    if not names or len(set(names)) < len(names):
        remedy = "A task needs an expert that it can read: its own, or a shared one."
        raise ValueError(f"{place}.names must name at least one expert, each once. Received {list(names)!r}. {remedy}")


def _shape_of_one(input_shape: Any) -> Any:
    """Shape of one input, also where the experts have one each."""
    return input_shape[0] if isinstance(input_shape[0], (list, tuple)) else input_shape
