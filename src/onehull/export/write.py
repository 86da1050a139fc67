"""Writes the next version of a bundle: all of it, or nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

import keras
import polars as pl
import tensorflow as tf

from onehull.errors import ArtifactError
from onehull.export.bundle import FORMAT, Bundle, bundle_versions, open_bundle
from onehull.export.parity import check_parity
from onehull.export.scoring import RawScorer, litert_model
from onehull.features import IdCounts, Transform
from onehull.fusion import Formula
from onehull.records.manifest import file_sha256
from onehull.spec import Spec, dump_spec
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
    FileEntry,
    Manifest,
    Parity,
    Statistics,
)

Source = Literal["user", "item", "context"]


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle beside the exported model."""

    spec: Spec
    transform: Transform
    formula: Formula
    statistics: Statistics
    metrics: Mapping[str, Any]
    sources: Mapping[str, Source]
    """Where each feature comes from when a request is scored."""
    users: pl.DataFrame | None
    items: pl.DataFrame | None
    simulated: bool
    counts: IdCounts
    """Of ids, for the next update."""
    slots: Path | None = None
    """File of the optimizers' and the balancer's variables, for the next update."""


def export_bundle(model: keras.Model, contents: Contents, rows: pl.DataFrame, directory: Path) -> Bundle:
    """Exports a model as the next version under a directory.

    The version is built in a hidden sibling and moved into place when everything in it agrees, so that an
    interruption, a full disk or a failed parity check leaves the versions that stand there as they are.

    Args:
        model: the trained model, from encoded inputs to one output a task.
        contents: everything else.
        rows: real rows of the samples table, to compare the exported forms on.
        directory: the bundle's directory; versions are its children.

    Raises:
        ExportError: the exported forms disagree.
        ArtifactError: the disk is full or the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        building = Path(mkdtemp(prefix=".building-", dir=directory))
        try:
            parity = _write_parts(model, contents, rows, building)
            return open_bundle(_publish(contents, parity, building, directory))
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except (OSError, tf.errors.OpError) as error:
        raise ArtifactError(
            f"{directory}: the bundle cannot be written: {error}. Older versions are intact."
        ) from error


def _write_parts(model: keras.Model, contents: Contents, rows: pl.DataFrame, building: Path) -> Parity:
    RawScorer(model, contents.transform, contents.formula).save(str(building))
    litert = building / LITERT_MODEL
    litert.write_bytes(litert_model(model, contents.transform.inputs))
    model.save(building / KERAS_MODEL)
    contents.transform.save(building / TRANSFORM)
    _write_training(contents, building)
    (building / SPEC).write_text(dump_spec(contents.spec), encoding="utf-8")
    (building / METRICS).write_text(json.dumps(contents.metrics, indent=2) + "\n", encoding="utf-8")
    (building / STATISTICS).write_text(contents.statistics.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for table, name in ((contents.users, USER_TABLE), (contents.items, ITEM_TABLE)):
        if table is not None:
            table.write_parquet(building / name)
    return check_parity(model, contents.transform, rows, building, litert)


def _write_training(contents: Contents, building: Path) -> None:
    """What the next update begins with, beside the model."""
    (building / COUNTS).parent.mkdir()
    contents.counts.save(building / COUNTS)
    if contents.slots is not None:
        shutil.copyfile(contents.slots, building / SLOTS)


def _publish(contents: Contents, parity: Parity, building: Path, directory: Path) -> Path:
    """Writes the manifest and moves the version into place; another export at the same time gets another number."""
    number = max(bundle_versions(directory), default=0) + 1
    while True:
        manifest = _manifest(contents, parity, building, number).model_dump_json(indent=2).encode()
        (building / MANIFEST).write_bytes(manifest)
        (building / MANIFEST_DIGEST).write_text(hashlib.sha256(manifest).hexdigest() + "\n", encoding="ascii")
        target = directory / str(number)
        try:
            # A rename onto a directory that is not empty fails, so two exports cannot take one number.
            building.chmod(0o755)
            return building.rename(target)
        except OSError:
            if not target.exists():
                raise
            number += 1


def _manifest(contents: Contents, parity: Parity, building: Path, number: int) -> Manifest:
    skip = {MANIFEST, MANIFEST_DIGEST}
    files = sorted(p for p in building.rglob("*") if p.is_file() and p.name not in skip)
    return Manifest(
        format=FORMAT,
        name=contents.spec.name,
        version=number,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        onehull=version("onehull"),
        tensorflow=version("tensorflow"),
        keras=version("keras"),
        simulated=contents.simulated,
        formula=contents.formula.text,
        tasks={name: task.kind for name, task in contents.spec.tasks.items()},
        inputs=contents.transform.inputs,
        user_features=_from(contents.sources, "user"),
        item_features=_from(contents.sources, "item"),
        context_features=_from(contents.sources, "context"),
        parity=parity,
        files={
            p.relative_to(building).as_posix(): FileEntry(sha256=file_sha256(p), size_bytes=p.stat().st_size)
            for p in files
        },
    )


def _from(sources: Mapping[str, Source], source: Source) -> tuple[str, ...]:
    return tuple(name for name, where in sources.items() if where == source)
