"""A file takes the place of another one in one step, after its bytes have reached the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onehull.errors import ArtifactError


@contextmanager
def replacing(path: Path, *, writer: str = "") -> Iterator[Path]:
    """Yields a temporary sibling that takes the place of `path` when the block ends well.

    Its name is always the same, so that the next run overwrites what a killed one has left.

    Args:
        path: of the file, in a directory that exists.
        writer: tells this writer from others that may write the same file at once; the last one stays.
    """
    temporary = path.with_name(f".{path.name}{writer}.tmp")
    try:
        yield temporary
        move_into_place(temporary, path)
    finally:
        with suppress(OSError):  # what went wrong before is what must be told
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a small file that is whole or absent, also when the machine stops or other processes write it, too.

    Args:
        path: of the file; its directory is made.
        content: text is written as UTF-8.

    Raises:
        ArtifactError: the disk is full, or the directory cannot be written; what stood there before is intact.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, writer=f".{os.getpid()}") as temporary:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        remedy = "What stood there before is intact. Free some space or choose another directory."
        raise ArtifactError(f"{path} cannot be written: {error}. {remedy}") from error


def move_into_place(file: Path, path: Path) -> None:
    """Moves a complete file over another one, in this order on the disk too: its bytes, then its name."""
    sync(file)
    file.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Brings a file's bytes, or a directory's names, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
