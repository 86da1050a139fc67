"""Where rejected lines go: one JSON object for each, with its place, the rule it breaks and its text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal

import msgspec

Reason = Literal[
    "malformed",
    "wrong_type",
    "time_out_of_range",
    "no_id",
    "bad_value",
    "no_impression",
    "before_impression",
    "too_late",
]
"""Why a line is rejected: not JSON or not UTF-8; a field of another type than the schema's; a time outside 1970 …
9999 (often a wrong unit); an impression without ``id``, or feedback without ``impression``; a value that the task
cannot use; feedback whose impression is not in the log; feedback older than its impression; in a stream, an impression
whose windows had closed when it came."""

_SHOWN_BYTES = 300


class Quarantine:
    """Writes rejected lines as they are found, and counts them by reason.

    Args:
        path: file to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.first: str | None = None

    def __enter__(self) -> Quarantine:
        self._file = self.path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def reject(self, file: Path, line: int, reason: Reason, detail: str, raw: bytes) -> None:
        """Adds a rejected line; `line` counts from 1."""
        entry = {"file": file.name, "line": line, "reason": reason, "detail": detail, "raw": shown(raw)}
        self._file.write(msgspec.json.encode(entry) + b"\n")
        self.counts[reason] += 1
        self.first = self.first or _place(file.name, line, detail)

    def reject_event(self, event: Mapping[str, object], reason: Reason, detail: str) -> None:
        """Adds a decoded event whose line is not at hand any more; it has no place."""
        entry = {"file": "", "line": 0, "reason": reason, "detail": detail, "raw": shown(msgspec.json.encode(event))}
        self._file.write(msgspec.json.encode(entry) + b"\n")
        self.counts[reason] += 1

    def copy(self, path: Path) -> None:
        """Adds what another quarantine holds."""
        with path.open("rb") as file:
            for line in file:
                self._file.write(line)
                entry = msgspec.json.decode(line, type=_Entry)
                self.counts[entry.reason] += 1
                if self.first is None and entry.line:
                    self.first = _place(entry.file, entry.line, entry.detail)


class _Entry(msgspec.Struct):
    file: str
    line: int
    reason: str
    detail: str


def _place(file: str, line: int, detail: str) -> str:
    return f"{file}, line {line}: {detail}"


def shown(raw: bytes) -> str:
    """The beginning of a rejected event, as text."""
    text = raw.rstrip(b"\r\n")
    return text[:_SHOWN_BYTES].decode("utf-8", errors="replace") + ("…" if len(text) > _SHOWN_BYTES else "")
