"""Opening a bundle: every byte is checked against the manifest before anything is read.

No TensorFlow here: the LiteRT ranker starts without it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from onehull.errors import ArtifactError
from onehull.features import IdCounts, Transform
from onehull.records.manifest import file_sha256
from onehull.spec import Spec, load_spec
from onehull.spec.bundle import (
    COUNTS,
    ITEM_TABLE,
    KERAS_MODEL,
    LITERT_MODEL,
    MANIFEST,
    MANIFEST_DIGEST,
    METRICS,
    SLOTS,
    SPEC,
    STATISTICS,
    TRANSFORM,
    USER_TABLE,
    Manifest,
    Statistics,
)

FORMAT = 1


@dataclass(frozen=True)
class Bundle:
    """A checked bundle on disk; its parts are read when they are asked for."""

    path: Path
    manifest: Manifest

    @cached_property
    def spec(self) -> Spec:
        """The spec that the model was trained by."""
        return load_spec(json.loads((self.path / SPEC).read_text(encoding="utf-8")))

    @cached_property
    def transform(self) -> Transform:
        """Raw values → encoded inputs."""
        return Transform.load(self.path / TRANSFORM)

    @cached_property
    def statistics(self) -> Statistics:
        """What training saw, for monitoring."""
        return Statistics.model_validate_json((self.path / STATISTICS).read_bytes())

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The evaluation report that came with the model."""
        report: dict[str, Any] = json.loads((self.path / METRICS).read_text(encoding="utf-8"))
        return report

    @property
    def users(self) -> pl.DataFrame | None:
        """Attributes of the users: ``id`` and ``x.FEATURE`` columns; None where the spec has no user."""
        return self._table(USER_TABLE)

    @property
    def items(self) -> pl.DataFrame | None:
        """The catalogue: ``id``, ``x.FEATURE``, ``show.FIELD`` and ``popularity``; None without items."""
        return self._table(ITEM_TABLE)

    @property
    def litert_path(self) -> Path:
        """The LiteRT model, from encoded inputs to the score of every task."""
        return self.path / LITERT_MODEL

    @property
    def keras_path(self) -> Path:
        """The Keras model, which an update begins with."""
        return self.path / KERAS_MODEL

    @property
    def slots_path(self) -> Path | None:
        """What the model's optimizers and balancer keep (`onehull.train.slots`); None where nothing was saved."""
        return self.path / SLOTS if SLOTS in self.manifest.files else None

    @cached_property
    def counts(self) -> IdCounts:
        """Decayed counts of the ids, from which vocabularies grow.

        Raises:
            ArtifactError: the bundle has none: an older version of OneHull wrote it.
        """
        return IdCounts.load(self.path / COUNTS)

    def _table(self, name: str) -> pl.DataFrame | None:
        return pl.read_parquet(self.path / name) if name in self.manifest.files else None


def open_bundle(path: str | Path) -> Bundle:
    """Opens a bundle and checks it against its manifest.

    Args:
        path: the directory of one version (``NAME/3``), or of all versions (``NAME``: the latest is opened).

    Raises:
        ArtifactError: no bundle there, another format, or a file that is missing or has changed.
    """
    directory = _version_directory(Path(path))
    manifest = _read_manifest(directory)
    for name, entry in manifest.files.items():
        file = directory / name
        if not file.is_file():
            raise ArtifactError(f"{file} is missing: the bundle's manifest lists it. Export the bundle again.")
        if file.stat().st_size != entry.size_bytes or file_sha256(file) != entry.sha256:
            raise ArtifactError(f"{file} has changed since the export: its SHA-256 is not the manifest's.")
    return Bundle(directory, manifest)


def bundle_versions(directory: Path) -> list[int]:
    """Versions that stand in a bundle directory, ascending."""
    if not directory.is_dir():
        return []
    return sorted(int(child.name) for child in directory.iterdir() if child.name.isdigit() and child.is_dir())


def _version_directory(path: Path) -> Path:
    if (path / MANIFEST).is_file():
        return path
    versions = bundle_versions(path)
    if not versions:
        raise ArtifactError(f"{path} holds no bundle. Make one with: onehull run SPEC --out DIR")
    return path / str(versions[-1])


def _read_manifest(directory: Path) -> Manifest:
    try:
        content = (directory / MANIFEST).read_bytes()
        digest = (directory / MANIFEST_DIGEST).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{directory} is not a whole bundle: {error}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise ArtifactError(
            f"{directory / MANIFEST} has changed since the export: it does not match {MANIFEST_DIGEST}."
        )
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise ArtifactError(f"{directory / MANIFEST} is not a manifest of this version: {error}") from error
    if manifest.format != FORMAT:
        raise ArtifactError(f"{directory}: format {manifest.format} is not known here. Known: {FORMAT}.")
    return manifest
