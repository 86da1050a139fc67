"""Keeps what has not changed: an artifact directory carries the key of everything that it was made from.

A step builds in ``.NAME.partial`` and moves the whole directory into place, so that ``NAME`` is always complete.
A partial directory of the same key is handed to the step again: a step that can, continues there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onehull.errors import ArtifactError
from onehull.files import replace_directory, restore_directory

STAMP = ".step.json"


@dataclass(frozen=True)
class Kept:
    """How a step ended."""

    name: str
    key: str
    kept: bool
    """True: its artifact was there already."""
    seconds: float


def fingerprint(*parts: Any) -> str:
    """A short key of JSON-like parts."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


FileState = tuple[str, int, int]
"""Name, size in bytes and time of change in nanoseconds: what tells a changed file without reading it."""


def file_state(path: Path, root: Path) -> FileState | None:
    """The state of a file, its name relative to a directory where it lies in it; None where it has gone meanwhile."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return str(name), stat.st_size, stat.st_mtime_ns


def finished_key(directory: Path) -> str | None:
    """Key of the artifact that stands in a directory; None where there is no complete one."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((directory / STAMP).read_text(encoding="utf-8"))["key"])
    return None


def build_once(directory: Path, key: str, build: Callable[[Path], str | None], *, force: bool = False) -> Kept:
    """Makes an artifact directory unless one with this key stands there.

    Args:
        directory: where the finished artifact goes.
        key: fingerprint of all that the artifact depends on.
        build: fills the directory that it is given; may find its own earlier, interrupted work there. What it returns
            is the key of what it has made, where that is known only then.
        force: build even when the artifact is there.

    Raises:
        ArtifactError: the disk is full or not writable; what stood there before is intact.
    """
    start = time.monotonic()
    partial = directory.with_name(f".{directory.name}.partial")
    restore_directory(directory)
    if not force and finished_key(directory) == key:
        return Kept(directory.name, key, kept=True, seconds=0.0)
    try:
        _open_partial(partial, key)
        key = build(partial) or key
        (partial / STAMP).write_text(json.dumps({"key": key, "seconds": time.monotonic() - start}), encoding="utf-8")
        replace_directory(partial, directory)
    except OSError as error:
        remedy = "Free some space or choose another directory, then run the same command again: it continues."
        message = f"{directory} cannot be written: {error}. The last good artifact is intact. {remedy}"
        raise ArtifactError(message) from error
    return Kept(directory.name, key, kept=False, seconds=time.monotonic() - start)


def _open_partial(partial: Path, key: str) -> None:
    """Leaves a partial directory for this key; one of another key is work that nobody wants any more."""
    marker = partial / ".key"
    if partial.exists() and (not marker.is_file() or marker.read_text(encoding="utf-8") != key):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    marker.write_text(key, encoding="utf-8")
