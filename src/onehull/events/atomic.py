"""Files appear whole or not at all: written beside their place, then moved into it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from onehull.errors import ArtifactError

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_CANNOT_WRITE = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EIO}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary sibling that takes the place of `path` when the block ends well.

    Its name is always the same, so that the next run overwrites what a killed one has left.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writable(directory: Path) -> Iterator[None]:
    """Makes a directory, and turns a full or read-only disk into one clear error.

    Raises:
        ArtifactError: the disk is full, or the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise _artifact_error(directory, error) from error
    except pl.exceptions.PolarsError as error:
        found = _OS_ERROR.search(str(error))
        if found is None or int(found[1]) not in _CANNOT_WRITE:
            raise
        raise _artifact_error(directory, OSError(int(found[1]), os.strerror(int(found[1])))) from error


def _artifact_error(directory: Path, error: OSError) -> ArtifactError:
    remedy = "What stood there before is intact. Free some space or choose another directory, then run it again."
    return ArtifactError(f"{directory} cannot be written: {error}. {remedy}")
