"""Are the shards those that were written? Asked before they are read, and again when reading fails.

What is read is checked by TFRecord's own sum of every record. Beyond that, before a part is read, each of its files
must have its size, and the SHA-256 of the manifest: calculated once, and again only after the file's size or time of
change is another one. So a start costs the same for a megabyte and for a terabyte, and a file that was copied here is
read once more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from onehull.errors import ArtifactError
from onehull.files import write_whole
from onehull.records.manifest import RecordsManifest, Shard, file_sha256, read_manifest
from onehull.spec.samples import SPLITS, SplitName

CHECKED = ".checked.json"
"""Size, time of change and SHA-256 of the files that have been read through, by name."""
_AGAIN = "Put the file back, or make the shards again: onehull prepare --force"

_States = dict[str, list[int | str]]


def verify_records(records: Path) -> RecordsManifest:
    """Reads every shard and checks its size and SHA-256, whatever was checked before.

    Raises:
        ArtifactError: a shard is missing or is not the one that was written; with its name.
    """
    manifest = read_manifest(records)
    shards = _shards(manifest, SPLITS)
    for shard in shards:
        _check_size(records, shard)
        _check_content(records, shard)
    note_checked(records, shards)
    return manifest


def check_parts(records: Path, manifest: RecordsManifest, splits: Sequence[SplitName]) -> None:
    """Checks the shards of some parts; reads only files that have changed since they were last read through.

    Raises:
        ArtifactError: a shard is missing or is not the one that was written; with its name.
    """
    shards = _shards(manifest, splits)
    known = _read_checked(records)
    for shard in shards:
        _check_size(records, shard)
    changed = [shard for shard in shards if known.get(shard.file) != _state(records, shard)]
    for shard in changed:
        _check_content(records, shard)
    if changed:
        note_checked(records, shards)


def note_checked(records: Path, shards: Sequence[Shard]) -> None:
    """Remembers that files have their SHA-256."""
    states = _read_checked(records) | {shard.file: _state(records, shard) for shard in shards}
    with suppress(ArtifactError):  # a directory that cannot be written is read through again by the next process
        write_whole(records / CHECKED, json.dumps(states))


@contextmanager
def reading_errors(records: Path) -> Iterator[None]:
    """Turns TensorFlow's error about a shard that vanished or was damaged while it was read into one that names it.

    Around whatever draws batches of `read_records`: training, evaluation. Errors of other causes pass through.

    Args:
        records: directory of shards.

    Raises:
        ArtifactError: a shard is missing, cut short or altered.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        try:
            shards = _shards(read_manifest(records), SPLITS)
            for shard in shards:
                _check_size(records, shard)
            # TFRecord's sum of a record is wrong: only then it is worth the time to read everything.
            for shard in shards if isinstance(error, tf.errors.DataLossError) else ():
                _check_content(records, shard)
        except ArtifactError as found:
            remedy = "Then run the same command again: it continues from the last checkpoint."
            raise ArtifactError(f"while the shards were read: {found} {remedy}") from error
        raise


def _shards(manifest: RecordsManifest, splits: Sequence[SplitName]) -> list[Shard]:
    return [shard for split in splits for shard in manifest.splits.get(split, ())]


def _check_size(records: Path, shard: Shard) -> None:
    path = records / shard.file
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: the manifest lists it. {_AGAIN}.")
    size = path.stat().st_size
    if size != shard.size_bytes:
        rule = f"must have {shard.size_bytes} bytes. Received {size}: it was cut short or altered."
        raise ArtifactError(f"{path} {rule} {_AGAIN}.")


def _check_content(records: Path, shard: Shard) -> None:
    path = records / shard.file
    if file_sha256(path) != shard.sha256:
        raise ArtifactError(f"{path} has been altered: its SHA-256 is not the manifest's. {_AGAIN}.")


def _state(records: Path, shard: Shard) -> list[int | str]:
    stat = (records / shard.file).stat()
    return [stat.st_size, stat.st_mtime_ns, shard.sha256]


def _read_checked(records: Path) -> _States:
    with suppress(OSError, ValueError):
        found = json.loads((records / CHECKED).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}
