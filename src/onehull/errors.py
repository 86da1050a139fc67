"""Every error that OneHull raises on purpose, sorted by who must act.

OneHullError
├── SpecError        the author of the spec: one or more faults, each with place, rule, value, remedy
├── DataError        the owner of the log or of a table: a file, a column or a value is not as declared
├── ArtifactError    the operator: an artifact is missing, altered, incomplete or in use by another run
├── ExportError      the author of the model: the exported forms do not agree
├── RequestError     the client of the service: a field of the request breaks a rule
├── BrokerError      the operator of a broker: it does not answer, refuses, or no longer holds what it should
├── RunnerError      the operator of a Beam runner: its options cannot be read, or its pipeline failed
└── MissingPartError the installer: an optional dependency or program is absent
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

_SHOWN_NAMES = 12


class OneHullError(Exception):
    """Base of all errors that a user can act on."""


class DataError(OneHullError):
    """A file, a column or a value of the input is not as the spec declares it."""


class ArtifactError(OneHullError):
    """An artifact is missing, altered, incomplete or in use by another run."""


class ExportError(OneHullError):
    """The exported forms of a model do not agree, or one cannot be made."""


class RequestError(OneHullError):
    """A client's request breaks a rule.

    Args:
        field: dotted path of the field in the request, empty for the whole body.
        message: rule, value and remedy.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class BrokerError(OneHullError):
    """A broker does not answer, refuses, or no longer holds what it should."""


class RunnerError(OneHullError):
    """A Beam runner's options cannot be read, or its pipeline failed."""


class MissingPartError(OneHullError):
    """An optional dependency or program is absent; the message holds the command that installs it."""


@dataclass(frozen=True)
class Fault:
    """One broken rule: where, which, with what value, and what to do."""

    place: str
    rule: str
    value: object = None
    remedy: str = ""
    has_value: bool = True

    def __str__(self) -> str:
        parts = [f"{self.place} {self.rule}."]
        if self.has_value:
            parts.append(f"Received {_short(self.value)}.")
        if self.remedy:
            parts.append(self.remedy)
        return " ".join(parts)


class SpecError(OneHullError):
    """A spec breaks one or more rules; all of them are reported at once."""

    def __init__(self, faults: Sequence[Fault], source: str = "spec") -> None:
        self.faults = tuple(faults)
        self.source = source
        head = f"{source}: {len(faults)} fault{'s' if len(faults) != 1 else ''}"
        super().__init__("\n".join([head, *(f"  {source}: {fault}" for fault in faults)]))


def suggest(value: object, known: Sequence[str]) -> str:
    """The remedy for a name that is not known: the closest known names, then all of them."""
    shown = ", ".join(repr(name) for name in known[:_SHOWN_NAMES]) or "none"
    more = f" and {len(known) - _SHOWN_NAMES} more" if len(known) > _SHOWN_NAMES else ""
    close = get_close_matches(str(value), known, n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Known: {shown}{more}.{hint}"


def _short(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
