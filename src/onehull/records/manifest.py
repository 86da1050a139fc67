"""What is in a directory of shards, and the check that it is still there."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from onehull.errors import ArtifactError
from onehull.spec.inputs import ModelInput
from onehull.spec.labels import LabelDistribution
from onehull.spec.samples import SplitName
from onehull.spec.section import Section

FORMAT = 1
MANIFEST = "manifest.json"
LABEL_PREFIX = "y."
"""Features of an Example that hold labels start with this; the others are encoded inputs."""


class Shard(Section):
    """One TFRecord file."""

    file: str
    rows: int
    size_bytes: int
    sha256: str


class LabelStatistics(Section):
    """Labels of one task in the training part."""

    rows: int
    labels: int
    positives: int
    """Labels above 0."""
    mean: float | None
    mean_log1p: float | None = None
    """Mean of log(1 + label), where all labels are above -1."""
    distribution: LabelDistribution | None = None
    """Of a regression task."""

    @property
    def coverage(self) -> float:
        """Share of rows that have a label."""
        return self.labels / self.rows if self.rows else 0.0


class RecordsManifest(Section):
    """A directory of shards."""

    format: int = FORMAT
    inputs: tuple[ModelInput, ...]
    tasks: tuple[str, ...]
    splits: dict[SplitName, tuple[Shard, ...]]
    labels: dict[str, LabelStatistics]

    def rows(self, split: SplitName) -> int:
        """Rows of a part."""
        return sum(shard.rows for shard in self.splits[split])


def read_manifest(records: Path) -> RecordsManifest:
    """The manifest of a directory of shards.

    Raises:
        ArtifactError: there is none, or it is of another format.
    """
    path = records / MANIFEST
    try:
        manifest = RecordsManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{records} holds no shards: {error}. Make them with: onehull prepare") from error
    except ValidationError as error:
        raise ArtifactError(f"{path} is not a manifest of this version: {error}") from error
    if manifest.format != FORMAT:
        raise ArtifactError(f"{path}: format {manifest.format} is not known here. Known: {FORMAT}.")
    return manifest


def verify_records(records: Path) -> RecordsManifest:
    """Checks every shard's size and SHA-256.

    Raises:
        ArtifactError: a shard is missing or is not the one that was written; with its name.
    """
    manifest = read_manifest(records)
    for shard in (shard for shards in manifest.splits.values() for shard in shards):
        path = records / shard.file
        if not path.is_file():
            raise ArtifactError(f"{path} is missing: the manifest lists it. Make the shards again: onehull prepare")
        if path.stat().st_size != shard.size_bytes:
            size = path.stat().st_size
            raise ArtifactError(
                f"{path} must have {shard.size_bytes} bytes. Received {size}: it was cut short or altered."
            )
        if file_sha256(path) != shard.sha256:
            raise ArtifactError(f"{path} has been altered: its SHA-256 is not the manifest's.")
    return manifest


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
