"""Sensible ranges for the sliders of a formula's weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_STEPS = 100


def sliders(weights: Mapping[str, float]) -> list[dict[str, Any]]:
    """Name, value, bounds and step of each weight.

    An exponent goes from 0 to at least 3, a factor from 0 to at least 10, and both to at least twice their value;
    a negative weight has the mirror image.
    """
    return [_slider(name, value) for name, value in weights.items()]


def _slider(name: str, value: float) -> dict[str, Any]:
    least = 3.0 if ".power" in name else 10.0
    top = _round_up(max(least, 2 * abs(value)), (1, 2, 3, 5))
    low, high = (-top, 0.0) if value < 0 else (0.0, top)
    return {"name": name, "value": value, "min": low, "max": high, "step": _round_up(top / _STEPS, (1, 2, 5))}


def _round_up(value: float, digits: tuple[int, ...]) -> float:
    """The next of these digits times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    rounded = next((digit * power for digit in digits if digit * power >= value * (1 - 1e-9)), 10 * power)
    return float(f"{rounded:.6g}")
