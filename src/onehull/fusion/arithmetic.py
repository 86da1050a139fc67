"""Arithmetic that is defined everywhere, so that scores always have an order.

No step gives NaN or an infinity for input without NaN:

- every result is clamped to ±1e30 (which float32 holds too)
- ``a / b``: a divisor nearer to 0 than 1e-30 counts as 1e-30, with the sign of a negative one
- ``a ^ b``: a negative base with a fractional exponent counts as 0; 0 with a negative exponent is 1e30; 0 ^ 0 is 1
- ``log(a)``: an argument below 1e-30 counts as 1e-30; ``log1p(a)``: one at or below -1 counts as -1 + 1e-15
- ``sqrt(a)``: a negative argument counts as 0

NaN in a score stays NaN: whoever predicts must refuse it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

LARGEST = 1e30
SMALLEST = 1e-30
_ABOVE_MINUS_ONE = -1 + 1e-15

Array = Any


class Namespace(Protocol):
    """What a formula needs of an array library; the module ``numpy`` is one, `tensorflow_ops` gives another."""

    @property
    def asarray(self) -> Callable[..., Array]:
        """``asarray(x, dtype="float64")``."""

    @property
    def exp(self) -> Callable[..., Array]:
        """Exponential."""

    @property
    def floor(self) -> Callable[..., Array]:
        """Largest whole number at or below."""

    @property
    def log(self) -> Callable[..., Array]:
        """Natural logarithm."""

    @property
    def log1p(self) -> Callable[..., Array]:
        """Logarithm of 1 + x."""

    @property
    def maximum(self) -> Callable[..., Array]:
        """The larger one, element by element."""

    @property
    def minimum(self) -> Callable[..., Array]:
        """The smaller one, element by element."""

    @property
    def power(self) -> Callable[..., Array]:
        """The first to the power of the second."""

    @property
    def sqrt(self) -> Callable[..., Array]:
        """Square root."""

    @property
    def where(self) -> Callable[..., Array]:
        """``where(condition, x, y)``."""


def clamp(x: Array, xp: Namespace) -> Array:
    """±infinity and beyond become ±`LARGEST`."""
    return xp.maximum(xp.minimum(x, LARGEST), -LARGEST)


def apply_operator(operator: str, a: Array, b: Array, xp: Namespace) -> Array:
    """``a + b``, ``a - b``, ``a * b``, ``a / b`` or ``a ^ b``, clamped."""
    return clamp(_OPERATORS[operator](a, b, xp), xp)


def apply_function(function: str, arguments: list[Array], xp: Namespace) -> Array:
    """One of `FUNCTIONS`, clamped."""
    return clamp(FUNCTIONS[function][2](arguments, xp), xp)


def _divide(a: Array, b: Array, xp: Namespace) -> Array:
    return a / xp.where(b < 0, xp.minimum(b, -SMALLEST), xp.maximum(b, SMALLEST))


def _power(a: Array, b: Array, xp: Namespace) -> Array:
    whole = xp.floor(b) == b
    # Adding 0 turns -0 into 0, whose negative powers are +infinity.
    return xp.power(xp.where(whole, a, xp.maximum(a, 0.0)) + 0.0, b)


def _fold(combine: Callable[..., Array], arguments: list[Array]) -> Array:
    result = arguments[0]
    for argument in arguments[1:]:
        result = combine(result, argument)
    return result


_OPERATORS: dict[str, Callable[[Array, Array, Namespace], Array]] = {
    "+": lambda a, b, _: a + b,
    "-": lambda a, b, _: a - b,
    "*": lambda a, b, _: a * b,
    "/": _divide,
    "^": _power,
}

_MANY = 64

FUNCTIONS: dict[str, tuple[int, int, Callable[[list[Array], Namespace], Array]]] = {
    "clip": (3, 3, lambda x, xp: xp.minimum(xp.maximum(x[0], x[1]), x[2])),
    "exp": (1, 1, lambda x, xp: xp.exp(x[0])),
    "log": (1, 1, lambda x, xp: xp.log(xp.maximum(x[0], SMALLEST))),
    "log1p": (1, 1, lambda x, xp: xp.log1p(xp.maximum(x[0], _ABOVE_MINUS_ONE))),
    "max": (2, _MANY, lambda x, xp: _fold(xp.maximum, x)),
    "min": (2, _MANY, lambda x, xp: _fold(xp.minimum, x)),
    "sqrt": (1, 1, lambda x, xp: xp.sqrt(xp.maximum(x[0], 0.0))),
}
"""Name → fewest arguments, most arguments, value. ``clip(x, low, high)``; min and max take two or more."""
