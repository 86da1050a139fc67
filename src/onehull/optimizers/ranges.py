"""Checks of the numbers that methods take."""

from __future__ import annotations


def at_least(owner: object, argument: str, value: float, least: float) -> float:
    """The value.

    Raises:
        ValueError: it is below ``least``, or no number.
    """
    if not least <= value < float("inf"):
        raise ValueError(f"{type(owner).__name__}.{argument} must be a number of at least {least}. Received {value!r}.")
    return value


def below_one(owner: object, argument: str, value: float) -> float:
    """The value.

    Raises:
        ValueError: it is not in [0, 1).
    """
    if not 0 <= value < 1:
        raise ValueError(f"{type(owner).__name__}.{argument} must be at least 0 and below 1. Received {value!r}.")
    return value
