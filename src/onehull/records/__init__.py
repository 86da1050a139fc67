"""TFRecord shards of ``tf.train.Example`` with a checked manifest, and the tf.data input that reads them.

`write_records` encodes samples with the transform graph, in one of two layouts: many rows an Example as raw words, or
one row an Example as other programs expect it. `read_records` yields the same ``(inputs, labels)`` batches from both,
where a missing label is NaN; from any batch on, and for any worker of several. A shard that is missing, cut short or
altered is refused with its name, also while it is read (`reading_errors`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onehull.records.manifest import LabelStatistics, RecordsManifest, Shard, read_manifest
from onehull.records.verify import reading_errors, verify_records

if TYPE_CHECKING:
    from onehull.records.read import read_records
    from onehull.records.write import write_records

__all__ = [
    "LabelStatistics",
    "RecordsManifest",
    "Shard",
    "read_manifest",
    "read_records",
    "reading_errors",
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
