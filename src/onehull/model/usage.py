"""How a model uses its experts: what the gates choose, and how much of each expert is alive.

Found from the `Gate` and `Experts` layers of a functional model, whatever its architecture. An expert that is read
without a gate (a single one) appears with its units only.

Shapes: ``B`` batch, ``n`` experts, ``d`` units of an expert.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from onehull.model.experts import Experts
from onehull.model.gate import Gate

NEGLECTED = 0.1
"""An expert has collapsed when no gate gives it a tenth of an equal share: of the 1/n it would have by chance."""
POLARISED = 0.95
"""A gate is polarised when its largest weight is above this in the mean over the rows."""
_ZERO = 1e-6
"""Outputs smaller than this are zeros; of a ReLU, they are exactly 0."""


@dataclass(frozen=True)
class GateUsage:
    """What one gate chooses, as means over the rows.

    Attributes:
        task: whose gate it is: a task, a group of tasks, the shared stream, or an expert of the next level.
        level: of the experts, counted from the input.
        experts: names of the experts that it mixes.
        mean_weights: mean weight of each expert; they sum to 1.
        entropy_nats: mean entropy of the weights.
        entropy_share: the same as a share of log n: 1 is indifferent, 0 chooses one expert for each row.
        mean_largest: mean of each row's largest weight.
    """

    task: str
    level: int
    experts: tuple[str, ...]
    mean_weights: tuple[float, ...]
    entropy_nats: float
    entropy_share: float
    mean_largest: float

    @property
    def polarised(self) -> bool:
        """Whether the gate takes about everything from one expert, on almost every row."""
        return self.mean_largest > POLARISED


@dataclass(frozen=True)
class UnitUsage:
    """How much of one expert's output is alive.

    Attributes:
        expert: name of the expert.
        level: counted from the input.
        units: width of its output.
        dead: share of units that are 0 on every row.
        zeros: share of zeros among units × rows. HoME (KDD 2025) calls an expert collapsed from 0.9 on.
        largest_weight: the largest of the mean weights that gates give it; None where it is read without a gate.
        collapsed: whether no gate gives it a tenth of an equal share, or nothing of it is alive.
    """

    expert: str
    level: int
    units: int
    dead: float
    zeros: float
    largest_weight: float | None
    collapsed: bool


@dataclass(frozen=True)
class ExpertUsage:
    """How a model uses its experts, on a sample of rows.

    Attributes:
        rows: how many rows were looked at.
        gates: one entry a gate, by level and name.
        experts: one entry an expert, by level and name.
    """

    rows: int
    gates: tuple[GateUsage, ...]
    experts: tuple[UnitUsage, ...]

    @property
    def collapsed(self) -> tuple[str, ...]:
        """The experts that no gate uses, or that say nothing: ``NAME (level L)``."""
        return tuple(_place(unit.expert, unit.level) for unit in self.experts if unit.collapsed)

    @property
    def polarised(self) -> tuple[str, ...]:
        """The gates that take about everything from one expert: ``TASK (level L)``."""
        return tuple(_place(gate.task, gate.level) for gate in self.gates if gate.polarised)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: the fields, and the names of `collapsed` experts and `polarised` gates."""
        return {**_lists(asdict(self)), "collapsed": list(self.collapsed), "polarised": list(self.polarised)}

    def lines(self) -> list[str]:
        """The usage as lines of text."""
        gates = [
            f"{_place(gate.task, gate.level)}: "
            + ", ".join(f"{name} {weight:.0%}" for name, weight in zip(gate.experts, gate.mean_weights, strict=True))
            + f"; entropy {gate.entropy_nats:.2f} nats, {gate.entropy_share:.0%} of the largest possible"
            for gate in self.gates
        ]
        experts = [
            f"{_place(unit.expert, unit.level)}: {unit.dead:.0%} of {unit.units} units dead, {unit.zeros:.0%} zeros"
            for unit in self.experts
        ]
        warnings = [f"Collapsed: {name}" for name in self.collapsed] + [f"Polarised: {name}" for name in self.polarised]
        return [f"Experts on {self.rows:,} rows", *gates, *experts, *warnings]


def expert_usage(model: keras.Model, batches: Iterable[Any]) -> ExpertUsage | None:
    """Measures how a functional model uses its experts, without dropout.

    Args:
        model: any functional model.
        batches: batches of inputs, or of ``(inputs, labels)``.

    Returns:
        None where the model has no gate, or there is no row.
    """
    gates = [layer for layer in model.layers if isinstance(layer, Gate)]
    experts = [layer for layer in model.layers if isinstance(layer, Experts)]
    if not gates:
        return None
    inner = keras.Model(model.input, [[layer.output for layer in gates], [layer.output for layer in experts]])
    choices, outputs = [_Choices(gate) for gate in gates], [_Outputs(layer) for layer in experts]

    @tf.function(reduce_retracing=True, autograph=False)
    def run(inputs: Any) -> Any:
        return inner(inputs, training=False)

    for batch in batches:
        weights, values = run(batch[0] if isinstance(batch, tuple) else batch)
        for choice, weights_Bn in zip(choices, weights, strict=True):
            choice.add(np.asarray(weights_Bn, np.float64))
        for output, values_Bnd in zip(outputs, values, strict=True):
            output.add(np.asarray(tf.cast(values_Bnd, tf.float32)))
    if not choices[0].rows:
        return None
    found = sorted((choice.usage() for choice in choices), key=lambda gate: (gate.level, gate.task))
    units = [unit for output in outputs for unit in output.usage(found)]
    return ExpertUsage(choices[0].rows, tuple(found), tuple(sorted(units, key=lambda unit: (unit.level, unit.expert))))


class _Choices:
    """Sums over the rows of what one gate gives out."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.rows = gate, 0
        self.weights_n = np.zeros(len(gate.names))
        self.entropy = self.largest = 0.0

    def add(self, weights_Bn: np.ndarray) -> None:
        self.rows += len(weights_Bn)
        self.weights_n += weights_Bn.sum(0)
        # 0 · log 0 is 0.
        self.entropy -= float((weights_Bn * np.log(np.maximum(weights_Bn, 1e-300))).sum())
        self.largest += float(weights_Bn.max(1).sum())

    def usage(self) -> GateUsage:
        count, entropy = len(self.gate.names), max(0.0, self.entropy / self.rows)
        return GateUsage(
            task=self.gate.task,
            level=self.gate.level,
            experts=self.gate.names,
            mean_weights=tuple(float(weight) for weight in self.weights_n / self.rows),
            entropy_nats=entropy,
            entropy_share=entropy / math.log(count) if count > 1 else 0.0,
            mean_largest=self.largest / self.rows,
        )


class _Outputs:
    """Counts of zeros in what one layer of experts gives out."""

    def __init__(self, experts: Experts) -> None:
        self.experts, self.rows = experts, 0
        shape = (len(experts.names), experts.widths[-1])
        self.zeros_nd, self.alive_nd = np.zeros(shape), np.zeros(shape, bool)

    def add(self, values_Bnd: np.ndarray) -> None:
        zero_Bnd = np.abs(values_Bnd) < _ZERO
        self.rows += len(values_Bnd)
        self.zeros_nd += zero_Bnd.sum(0)
        self.alive_nd |= ~zero_Bnd.all(0)

    def usage(self, gates: Iterable[GateUsage]) -> list[UnitUsage]:
        level, units, gates = self.experts.level, self.experts.widths[-1], list(gates)
        found = []
        for place, name in enumerate(self.experts.names):
            shares = {
                (weight, weight * len(gate.experts))
                for gate in gates
                for expert, weight in zip(gate.experts, gate.mean_weights, strict=True)
                if (gate.level, expert) == (level, name)
            }
            dead = 1 - float(self.alive_nd[place].mean())
            neglected = bool(shares) and max(relative for _, relative in shares) < NEGLECTED
            found.append(
                UnitUsage(
                    expert=name,
                    level=level,
                    units=units,
                    dead=dead,
                    zeros=float(self.zeros_nd[place].mean()) / self.rows,
                    largest_weight=max((weight for weight, _ in shares), default=None),
                    collapsed=neglected or dead == 1,
                )
            )
        return found


def _place(name: str, level: int) -> str:
    return f"{name} (level {level})"


def _lists(value: Any) -> Any:
    """Tuples as lists, as JSON reads them back."""
    if isinstance(value, dict):
        return {key: _lists(entry) for key, entry in value.items()}
    return [_lists(entry) for entry in value] if isinstance(value, (list, tuple)) else value
