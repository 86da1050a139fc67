"""What every section of a spec shares: frozen, strict about unknown keys, durations written as 30m or 2h."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*$")


class Section(BaseModel):
    """Base of every section: immutable, and a key that is not known is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


def parse_duration(value: Any) -> timedelta:
    """Reads ``45s``, ``30m``, ``2h``, ``1.5d`` or ``1w``; a timedelta passes through.

    Raises:
        ValueError: anything else, also zero.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None or float(match[1]) == 0:
        raise ValueError("must be a positive duration such as 45s, 30m, 2h, 1d or 1w")
    return timedelta(seconds=float(match[1]) * _UNIT_SECONDS[match[2]])


def format_duration(value: timedelta) -> str:
    """The shortest writing of a duration that `parse_duration` reads back."""
    seconds = value.total_seconds()
    for unit in ("w", "d", "h", "m"):
        if seconds % _UNIT_SECONDS[unit] == 0:
            return f"{int(seconds // _UNIT_SECONDS[unit])}{unit}"
    return f"{seconds:g}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?[smhdw]$", "examples": ["30m", "2h", "1d"]}),
]
"""A positive length of time: a number and one of s, m, h, d, w."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]
"""A name that is also usable as a layer name, a column suffix and a variable of a formula."""

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
