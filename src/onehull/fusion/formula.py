"""A parsed formula: text, tasks, tunable numbers, value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onehull.errors import DataError, Fault, SpecError, suggest
from onehull.fusion.arithmetic import Array, Namespace, apply_function, apply_operator, clamp
from onehull.fusion.parser import MAX_LENGTH, PLACE, Parser
from onehull.fusion.tree import Binary, Call, Negate, Node, Number, TaskScore, children, tasks_in, to_text


@dataclass(frozen=True)
class Formula:
    """A formula over task scores; equal trees are equal formulas.

    Attributes:
        tree: the immutable expression.
    """

    tree: Node

    @cached_property
    def text(self) -> str:
        """The canonical text, which parses back to the same formula."""
        return to_text(self.tree)

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that the formula uses, in the order of the text."""
        return tasks_in(self.tree)

    @property
    def weights(self) -> dict[str, float]:
        """The tunable numbers, in the order of the text, named after what they act on.

        An exponent of a subexpression is ``TASKS.power``, a factor of one is ``TASKS.times``, where TASKS are the
        tasks of the subexpression joined by ``_``; a name that occurs again gets ``_2``. The value is the number
        itself: ``- 20 * hate`` subtracts ``hate.times`` = 20, and ``-20 * hate`` at the start adds ``hate.times``
        = -20. All other numbers, such as the 1 of (1 + watch), are constants.
        """
        weights: dict[str, float] = {}

        def collect(name: str, value: float) -> float:
            weights[name] = value
            return value

        _map_weights(self.tree, _numbered(collect))
        return weights

    def with_weights(self, weights: Mapping[str, float]) -> Formula:
        """The same formula with some tunable numbers replaced.

        Raises:
            SpecError: a name is not one of `weights`, or a number is not finite.
        """
        known = list(self.weights)
        faults = [
            Fault(f"formula.weights.{name}", "must be a weight of the formula", name, suggest(name, known))
            for name in weights
            if name not in known
        ]
        faults += [
            Fault(f"formula.weights.{name}", "must be a finite number", value)
            for name, value in weights.items()
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)
        ]
        if faults:
            raise SpecError(faults, "formula")
        return Formula(_map_weights(self.tree, _numbered(lambda name, value: float(weights.get(name, value)))))

    def __call__(self, scores: Mapping[str, Array], xp: Namespace | Any = np) -> Array:
        """The fused score, computed in float64 with the arithmetic of `onehull.fusion.arithmetic`.

        Args:
            scores: task → scores ``(B,)`` without NaN, probabilities or values on the scale of the label.
            xp: ``numpy``, or `tensorflow_ops()` inside a TensorFlow graph.

        Returns:
            Float64 ``(B,)``, finite: the higher, the earlier in the order.

        Raises:
            DataError: a task of the formula has no scores.
        """
        missing = [task for task in self.tasks if task not in scores]
        if missing:
            raise DataError(f"scores must hold every task of the formula {self.text!r}. Missing: {missing}")
        with np.errstate(all="ignore"):
            return _value(self.tree, scores, xp)


def parse_formula(text: str, tasks: Sequence[str] | Mapping[str, str]) -> Formula:
    """Reads a formula such as ``click^1.0 * (1 + watch)^0.5 + 4 * like - 20 * hate``.

    Numbers, task names, ``+ - * / ^`` (right-associative; unary minus binds below it), parentheses, and the
    functions clip, exp, log, log1p, max, min, sqrt.

    Args:
        text: at most 8,000 characters, nested at most 100 deep.
        tasks: names that may be used, or name → kind: a multi-class task has no single score and is refused.

    Raises:
        SpecError: with a fault for each unknown name, and the place of the first error of structure.
    """
    if len(text) > MAX_LENGTH:
        raise _refusal(f"must have at most {MAX_LENGTH} characters, not {len(text)}", text)
    if not text.strip():
        raise _refusal("must not be empty", text, "Leave the key out for the sum of the binary tasks.")
    kinds = tasks if isinstance(tasks, Mapping) else dict.fromkeys(tasks, "binary")
    tree = Parser(text, {name: kind != "multiclass" for name, kind in kinds.items()}).parse()
    if not tasks_in(tree):
        raise _refusal("must use at least one task", text, suggest("", list(kinds)))
    return Formula(tree)


def default_formula(tasks: Mapping[str, str]) -> Formula:
    """The sum of the binary tasks; where there is none, the sum of the regression tasks.

    Args:
        tasks: name → kind.

    Raises:
        SpecError: there are only multi-class tasks.
    """
    for kind in ("binary", "regression"):
        names = [name for name, of_kind in tasks.items() if of_kind == kind]
        if names:
            return parse_formula(" + ".join(names), names)
    raise _refusal("needs a binary or a regression task", dict(tasks))


def _refusal(rule: str, value: object, remedy: str = "") -> SpecError:
    return SpecError([Fault(PLACE, rule, value, remedy)], "formula")


def _value(node: Node, scores: Mapping[str, Array], xp: Namespace) -> Array:
    # No match statement: AutoGraph, which reads this inside a tf.function, does not know it and would warn.
    if isinstance(node, Number):
        return clamp(xp.asarray(node.value, dtype="float64"), xp)
    if isinstance(node, TaskScore):
        return clamp(xp.asarray(scores[node.name], dtype="float64"), xp)
    operands = [_value(child, scores, xp) for child in children(node)]
    if isinstance(node, Binary):
        return apply_operator(node.operator, operands[0], operands[1], xp)
    if isinstance(node, Call):
        return apply_function(node.function, operands, xp)
    return -operands[0]


def _numbered(change: Callable[[str, float], float]) -> Callable[[str, float], float]:
    """Gives the second number of a name the suffix ``_2``, and so on."""
    seen: dict[str, int] = {}

    def numbered(name: str, value: float) -> float:
        seen[name] = seen.get(name, 0) + 1
        return change(name if seen[name] == 1 else f"{name}_{seen[name]}", value)

    return numbered


def _map_weights(node: Node, change: Callable[[str, float], float]) -> Node:
    """The tree with each tunable number passed through `change(name, value)`, from left to right."""
    match node:
        case Negate(operand):
            return Negate(_map_weights(operand, change))
        case Call(function, arguments):
            return Call(function, tuple(_map_weights(a, change) for a in arguments))
        case Binary():
            return _map_binary(node, change)
        case _:
            return node


def _map_binary(node: Binary, change: Callable[[str, float], float]) -> Binary:
    match node:
        case Binary("*", Number(value), right) if tasks_in(right):
            # The order of the text: the factor on the left is met before what it multiplies.
            return Binary("*", Number(change(_name(right, "times"), value)), _map_weights(right, change))
        case Binary("*" | "^", left, Number(value)) if tasks_in(left):
            role = "power" if node.operator == "^" else "times"
            return Binary(node.operator, _map_weights(left, change), Number(change(_name(left, role), value)))
        case _:
            return Binary(node.operator, _map_weights(node.left, change), _map_weights(node.right, change))


def _name(node: Node, role: str) -> str:
    return f"{'_'.join(tasks_in(node))}.{role}"
