"""Keeps the start-up notes of TensorFlow's and LiteRT's C++ parts out of the terminal.

They write to file descriptor 2 before any setting can silence them. That descriptor is led into a temporary file, and
Python's own ``sys.stderr`` goes on to the terminal. Whoever sets ``TF_CPP_MIN_LOG_LEVEL`` sees everything as it comes.
"""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

_SWITCH = "TF_CPP_MIN_LOG_LEVEL"


def divert() -> Path | None:
    """Leads native logs into a file, which is removed at a normal exit; None where the user wants to see them."""
    if _SWITCH in os.environ:
        return None
    os.environ[_SWITCH] = "3"
    handle, name = tempfile.mkstemp(prefix="onehull-", suffix=".log")
    terminal = os.dup(2)
    os.dup2(handle, 2)
    os.close(handle)
    sys.stderr = os.fdopen(terminal, "w", buffering=1, errors="backslashreplace")
    path = Path(name)
    atexit.register(_remove, path)
    return path


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
