"""Variables in one ``.npz`` file, written and read a piece at a time: a table of gigabytes needs no second copy.

NumPy reads the file, too; `numpy.savez` would hold all arrays at once. ZIP keeps a checksum of each array.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import keras
import numpy as np
import tensorflow as tf
from numpy.lib import format as npy

_PIECE_BYTES = 16 << 20
_VERSION = (1, 0)
_CONTENTS = "contents"
"""The keys of all arrays: one byte of ZIP's directory can hide some of them."""

DAMAGE = (
    OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, struct.error, zlib.error,
    zipfile.BadZipFile, zipfile.LargeZipFile,
)  # fmt: skip
"""What reading a damaged archive raises: any byte of it may be another one."""


def write_arrays(file: IO[bytes], variables: Iterable[tuple[str, Any]], texts: Mapping[str, str]) -> None:
    """Writes variables and texts into an open file.

    Args:
        file: writable.
        variables: key → variable of Keras or TensorFlow.
        texts: key → text, kept as an array of one string.
    """
    keys: list[str] = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for key, text in texts.items():
            _write_text(archive, key, text)
            keys.append(key)
        for key, variable in variables:
            with archive.open(_member(key), "w", force_zip64=True) as member:
                _write(member, variable)
            keys.append(key)
        _write_text(archive, _CONTENTS, json.dumps(keys))


class Archive:
    """An archive that is whole: every checksum has been compared before anything is taken out.

    Args:
        path: of the file.

    Raises:
        one of `DAMAGE`: the file is cut short or altered.
    """

    def __init__(self, path: Path) -> None:
        # Opened here, because what reads the archive would leave the file open when it is damaged.
        self._file = path.open("rb")
        try:
            self._zip = zipfile.ZipFile(self._file)
            broken = self._zip.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"the checksum of {broken} is not that of its bytes")
            self.keys: list[str] = json.loads(self.text(_CONTENTS))
            if [_member(key) for key in (*self.keys, _CONTENTS)] != self._zip.namelist():
                raise zipfile.BadZipFile("it does not hold the arrays that it lists")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._file.close()

    def text(self, key: str) -> str:
        """A text."""
        with self._zip.open(_member(key)) as member:
            return str(npy.read_array(member, allow_pickle=False))

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of an array."""
        with self._zip.open(_member(key)) as member:
            return _header(member)[0]

    def restore(self, key: str, variable: Any) -> None:
        """Assigns an array to a variable of the same shape."""
        if _fits_one_piece(variable):
            with self._zip.open(_member(key)) as member:
                variable.assign(npy.read_array(member, allow_pickle=False))
            return
        with self._zip.open(_member(key)) as member:
            shape, dtype = _header(member)
            rows, width = _rows_of_a_piece(shape, dtype), int(np.prod(shape[1:]))
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                piece = np.frombuffer(member.read(count * width * dtype.itemsize), dtype)
                for component in _components(variable):
                    _put(component, start, piece.reshape(count, *shape[1:]))


def _member(key: str) -> str:
    return f"{key}.npy"


def _write_text(archive: zipfile.ZipFile, key: str, text: str) -> None:
    with archive.open(_member(key), "w") as member:
        npy.write_array(member, np.asarray(text), version=_VERSION, allow_pickle=False)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(member)
    if version != _VERSION:
        raise ValueError(f"arrays must be of version {_VERSION} of NumPy's format. Received {version}.")
    shape, _, dtype = npy.read_array_header_1_0(member)
    return shape, dtype


def _write(member: IO[bytes], variable: Any) -> None:
    if _fits_one_piece(variable):
        npy.write_array(member, np.asarray(variable), version=_VERSION, allow_pickle=False)
        return
    shape, dtype = tuple(variable.shape), np.dtype(tf.as_dtype(variable.dtype).as_numpy_dtype)
    described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(member, described)
    rows, source = _rows_of_a_piece(shape, dtype), _components(variable)[0]
    for start in range(0, shape[0], rows):
        # Looking rows up copies these alone; a slice of the variable would copy all of it first.
        piece = source.sparse_read(tf.range(start, min(start + rows, shape[0]), dtype=tf.int64))
        member.write(np.ascontiguousarray(piece.numpy()).data)


def _put(component: Any, start: int, piece: np.ndarray) -> None:
    rows = tf.range(start, start + len(piece), dtype=tf.int64)
    component.scatter_update(tf.IndexedSlices(tf.constant(piece), rows))


def _components(variable: Any) -> tuple[Any, ...]:
    """TensorFlow's variables under a variable, one for each device that has a copy."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return tuple(getattr(value, "values", (value,)))


def _fits_one_piece(variable: Any) -> bool:
    size = int(np.prod(variable.shape)) * tf.as_dtype(variable.dtype).size
    return len(variable.shape) == 0 or size <= _PIECE_BYTES


def _rows_of_a_piece(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return max(1, _PIECE_BYTES // max(1, int(np.prod(shape[1:])) * dtype.itemsize))
