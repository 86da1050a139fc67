"""The page's files, read once at the start; only these names can be asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class PageFile:
    """One file of the page."""

    content: bytes
    media_type: str
    tag: str
    """Entity tag, so that a browser asks but does not load twice."""


def page_files() -> Mapping[str, PageFile]:
    """Every file of the page by name."""
    found = {}
    for entry in files("onehull.serve").joinpath("page").iterdir():
        kind = _TYPES.get("." + entry.name.rsplit(".", 1)[-1])
        if kind is not None:
            content = entry.read_bytes()
            found[entry.name] = PageFile(content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return found
