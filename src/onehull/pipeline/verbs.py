"""The public verbs. Each works alone on an output directory; `run` does all of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onehull.errors import ArtifactError
from onehull.pipeline.cache import Kept, fingerprint, finished_key
from onehull.pipeline.project import Project
from onehull.pipeline.steps import ASSEMBLE, EVALUATE, PREPARE, TRAIN, evaluation_keys

if TYPE_CHECKING:
    from onehull.evaluate import Report
    from onehull.export import Bundle


@dataclass(frozen=True)
class RunResult:
    """What `run` leaves behind."""

    report: Report
    bundle: Bundle
    steps: tuple[Kept, ...]


def assemble(project: Project, *, force: bool = False) -> Kept:
    """Joins events into samples, or reads ready-made tables: ``samples/``."""
    with project.locked():
        return ASSEMBLE.do(project, force=force)


def prepare(project: Project, *, force: bool = False) -> Kept:
    """Analyses features and writes TFRecord shards: ``records/``."""
    with project.locked():
        return PREPARE.do(project, force=force)


def train(project: Project, *, force: bool = False) -> Kept:
    """Trains the model; validation chooses the epoch: ``training/``."""
    with project.locked():
        return TRAIN.do(project, force=force)


def evaluate(project: Project, *, force: bool = False) -> Report:
    """Reports on the test part: ``evaluation/report.html`` and ``report.json``."""
    with project.locked():
        EVALUATE.do(project, force=force)
        return read_report(project)


def export(project: Project, *, force: bool = False) -> Bundle:
    """Exports the next version of the bundle, unless the latest was made from the same model and settings."""
    with project.locked():
        return _export(project, force=force)


def run(project: Project, *, force: bool = False) -> RunResult:
    """Does all of it; keeps what has not changed, and continues after an interruption."""
    with project.locked():
        project.check_data()
        steps = tuple(step.do(project, force=force) for step in (ASSEMBLE, PREPARE, TRAIN, EVALUATE))
        bundle = _export(project, force=force)
        return RunResult(read_report(project), bundle, steps)


def read_report(project: Project) -> Report:
    """The report of a project that has been evaluated."""
    from onehull.evaluate import Report

    return Report.model_validate_json((project.evaluation / "report.json").read_bytes())


def _export(project: Project, *, force: bool) -> Bundle:
    from onehull.export import open_bundle

    found = finished_key(project.evaluation)
    if found not in evaluation_keys(project):
        command = f"onehull evaluate {project.source} --data {project.data} --out {project.out}"
        raise ArtifactError(f"{project.evaluation} is missing or was made from another spec. Make it with: {command}")
    key = fingerprint(found, project.spec.section("name", "description", "data", "fusion", "serving", "monitoring"))
    stamp = project.bundle.parent / f".{project.spec.name}.json"
    if not force and (version := _exported_version(stamp, key)) is not None and (project.bundle / version).is_dir():
        bundle, state = open_bundle(project.bundle / version), "[dim]kept[/]"
    else:
        from onehull.pipeline.bundle import export_project

        bundle = export_project(project)
        stamp.write_text(json.dumps({"key": key, "version": bundle.path.name}), encoding="utf-8")
        state = f"version {bundle.manifest.version}"
    project.console.print(f"[green]✓[/] [bold]export[/]  {state}  [dim]{bundle.path}[/]")
    return bundle


def _exported_version(stamp: Path, key: str) -> str | None:
    try:
        found = json.loads(stamp.read_text(encoding="utf-8"))
        return str(found["version"]) if found["key"] == key else None
    except (OSError, ValueError, KeyError):
        return None
