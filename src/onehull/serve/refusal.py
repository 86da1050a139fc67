"""A request that the service refuses: an HTTP status and every broken rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onehull.errors import Fault, RequestError

_SHOWN_CHARACTERS = 120


class RefusalError(RequestError):
    """A client's request breaks one or more rules; all of them are reported at once.

    Args:
        status: HTTP status, 4xx, or 503 where the service cannot do its part.
        faults: at least one; `Fault.place` is the dotted path of the field, empty for the whole body.
    """

    def __init__(self, status: int, faults: Sequence[Fault]) -> None:
        first = faults[0]
        super().__init__(first.place, " ".join(part for part in (f"{first.rule}.", first.remedy) if part))
        self.status = status
        self.faults = tuple(faults)

    def body(self) -> dict[str, Any]:
        """The JSON answer: ``error`` is the first fault, ``errors`` are all."""
        errors = [_fault_json(fault) for fault in self.faults]
        return {"error": errors[0], "errors": errors}


def refuse(status: int, field: str, rule: str, value: object = None, remedy: str = "") -> RefusalError:
    """A rejection with one fault; a value of None is not shown."""
    return RefusalError(status, [Fault(field, rule, value, remedy, has_value=value is not None)])


def _fault_json(fault: Fault) -> dict[str, Any]:
    return {"field": fault.place, "rule": fault.rule, "value": _shown(fault), "remedy": fault.remedy}


def _shown(fault: Fault) -> object:
    """The value as the client sent it where that is short, else the beginning of its text."""
    value = fault.value
    if not fault.has_value or value is None or isinstance(value, bool):
        return value if fault.has_value else None
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    text = value if isinstance(value, str) else _text(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _text(value: object) -> str:
    if isinstance(value, int):
        # Python refuses to print integers of more than 4,300 digits.
        return "a very large integer" if value.bit_length() > 4096 else str(value)
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    return repr(value)
