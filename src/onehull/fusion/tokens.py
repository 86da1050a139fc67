"""The text of a formula cut into tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

TokenKind = Literal["number", "name", "symbol", "unknown", "end"]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<symbol>[-+*/^(),])"
    r"|(?P<unknown>\S))"
)


@dataclass(frozen=True)
class Token:
    """A piece of the text and where it starts."""

    kind: TokenKind
    text: str
    position: int


def tokenize(text: str) -> Iterator[Token]:
    """Cuts a formula into tokens; the last one has the kind ``end``."""
    position = 0
    while match := _TOKEN.match(text, position):
        kind: TokenKind = match.lastgroup  # type: ignore[assignment]
        yield Token(kind, match[kind], match.start(kind))
        position = match.end()
    yield Token("end", "", len(text.rstrip()))
