"""Rows as ``tf.train.Example`` bytes, a whole batch at once.

Within one set of shards every Example has the same features with the same number of values, so all Examples can have
the same length: what differs between two of them stands at fixed places. A varint may be written longer than it needs
to be (protobuf's wire format allows it, every parser reads it), so ids take as many bytes as the largest one. Then a
batch is one template row, repeated, with columns of bytes filled in; no protobuf object is made per row.

Shapes: ``B`` rows, ``L`` values of a feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_BYTES_PER_FLOAT = 4
_FLOAT_LIST, _INT64_LIST = 2, 3
"""Field numbers of ``tf.train.Feature``."""


@dataclass(frozen=True)
class Column:
    """One feature of every Example: its number of values, and the bytes of an id (0 for floats)."""

    name: str
    length: int
    id_bytes: int = 0

    @property
    def payload_bytes(self) -> int:
        """Bytes of the packed values."""
        return self.length * (self.id_bytes or _BYTES_PER_FLOAT)

    def header(self) -> bytes:
        """Everything of the map entry that comes before the packed values."""
        packed = _length_delimited(1, self.payload_bytes)
        values = len(packed) + self.payload_bytes
        kind = _length_delimited(_INT64_LIST if self.id_bytes else _FLOAT_LIST, values)
        name = self.name.encode()
        key = _length_delimited(1, len(name)) + name
        value = _length_delimited(2, len(kind) + values)
        entry = len(key) + len(value) + len(kind) + values
        return _length_delimited(1, entry) + key + value + kind + packed


class ExampleEncoder:
    """Encodes batches of rows whose columns are fixed."""

    def __init__(self, columns: list[Column]) -> None:
        self.columns = columns
        body = b""
        self._places: list[tuple[Column, int]] = []
        for column in columns:
            body += column.header()
            self._places.append((column, len(body)))
            body += bytes(column.payload_bytes)
        start = _length_delimited(1, len(body))
        self._template = np.frombuffer(start + body, dtype=np.uint8)
        self._shift = len(start)

    def encode(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """One Example a row.

        Args:
            values: int or float array ``(B,)`` or ``(B, L)`` for each column.

        Returns:
            uint8 array ``(B, bytes of an Example)``.
        """
        rows = len(next(iter(values.values())))
        examples = np.tile(self._template, (rows, 1))
        for column, place in self._places:
            value = values[column.name].reshape(rows, column.length)
            packed = _varints(value, column.id_bytes) if column.id_bytes else _floats(value)
            start = self._shift + place
            examples[:, start : start + column.payload_bytes] = packed
        return examples


def id_bytes(largest: int) -> int:
    """Bytes of a varint that holds ids up to the largest."""
    return max(1, -(-int(largest).bit_length() // 7))


def _varints(ids_BL: np.ndarray, width: int) -> np.ndarray:
    """Ids as varints of one width ``(B, L * width)``: seven bits a byte, low bits first."""
    shifts = np.arange(width, dtype=np.int64) * 7
    parts = (ids_BL.astype(np.int64)[..., None] >> shifts) & 0x7F
    parts[..., :-1] |= 0x80
    return parts.astype(np.uint8).reshape(len(ids_BL), -1)


def _floats(values_BL: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values_BL, dtype="<f4").view(np.uint8).reshape(len(values_BL), -1)


def _length_delimited(field: int, length: int) -> bytes:
    """Tag of a length-delimited field, and its length."""
    return bytes([field << 3 | 2]) + _varint(length)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
