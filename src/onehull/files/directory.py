"""A directory is added, by one rename; or takes the place of another one, by two, with a way back from between them."""

from __future__ import annotations

import shutil
from pathlib import Path

from onehull.files.file import sync


def add_directory(building: Path, directory: Path) -> None:
    """Moves a finished directory to a place where none is, in this order on the disk too: its files, then its name.

    Args:
        building: the finished directory, on the same file system. A file that is a link to another place's is on the
            disk already.
        directory: the place.

    Raises:
        OSError: a directory that is not empty stands there, or the disk is full or gone; nothing was added.
    """
    for file in building.iterdir():
        if file.stat().st_nlink == 1:
            sync(file)
    sync(building)
    building.rename(directory)
    sync(directory.parent)


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
