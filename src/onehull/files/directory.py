"""A directory takes the place of another one: two renames, and a way back from between them."""

from __future__ import annotations

import shutil
from pathlib import Path


def replace_directory(building: Path, directory: Path) -> None:
    """Puts a finished directory in its place; an interruption leaves the old or the new one whole.

    Killed between its two renames, it leaves the old one beside the place: see `restore_directory`.

    Args:
        building: the finished directory, on the same file system.
        directory: the place; what stands there is removed.
    """
    old = _old(directory)
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    building.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def restore_directory(directory: Path) -> None:
    """Puts back what a `replace_directory` that was killed half way has set aside."""
    old = _old(directory)
    if old.exists() and not directory.exists():
        old.rename(directory)


def _old(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.old")
