"""A full or read-only disk is one clear error, whatever library meets it."""

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
