"""What is in a directory of shards."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from onehull.errors import ArtifactError
from onehull.records.row_plan import RowPlan, plan_row
from onehull.spec.inputs import ModelInput
from onehull.spec.labels import LabelDistribution
from onehull.spec.records import Records
from onehull.spec.samples import SplitName
from onehull.spec.section import Section

FORMAT = 2
MANIFEST = "manifest.json"


class Shard(Section):
    """One TFRecord file."""

    file: str
    rows: int
    size_bytes: int
    sha256: str
    offsets: tuple[int, ...] = (0,)
    """Byte at which each block begins. A compressed file of the layout ``rows`` can only be read from its start."""


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
    late_share: float | None = None
    """Of a task with ``late``: share of the positives that came after their sample had left first."""

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
    settings: Records = Records(layout="rows")
    """How the shards were written."""
    row: RowPlan | None = None
    """Where the values of a row stand, in the layout ``blocks``."""

    def rows(self, split: SplitName) -> int:
        """Rows of a part."""
        return sum(shard.rows for shard in self.splits[split])

    def plan(self) -> RowPlan:
        """Where the values of a row stand when it is read."""
        return self.row or plan_row(self.inputs, self.tasks, packed=False)


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
        remedy = "Make the shards again: onehull prepare --force"
        raise ArtifactError(f"{path} must have format {FORMAT}. Received format {manifest.format}. {remedy}")
    return manifest


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
