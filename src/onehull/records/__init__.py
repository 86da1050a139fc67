"""TFRecord shards of ``tf.train.Example`` with a checked manifest, and the tf.data input that reads them.

`write_records` encodes samples with the transform graph; `read_records` yields ``(inputs, labels)`` batches, where a
missing label is NaN. A shard that is missing, cut short or altered is refused with its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onehull.records.manifest import LabelStatistics, RecordsManifest, Shard, read_manifest, verify_records

if TYPE_CHECKING:
    from onehull.records.read import read_records
    from onehull.records.write import write_records

__all__ = [
    "LabelStatistics",
    "RecordsManifest",
    "Shard",
    "read_manifest",
    "read_records",
    "verify_records",
    "write_records",
]


def __getattr__(name: str) -> Any:
    # Reading and writing shards needs TensorFlow; reading a manifest does not.
    if name == "read_records":
        from onehull.records.read import read_records

        return read_records
    if name == "write_records":
        from onehull.records.write import write_records

        return write_records
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
