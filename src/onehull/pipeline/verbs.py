"""The public verbs. Each works alone on an output directory; `run` does all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from rich.console import Console

from onehull.errors import ArtifactError
from onehull.pipeline.cache import Kept, fingerprint, finished_key
from onehull.pipeline.project import Baseline, Project
from onehull.pipeline.steps import ASSEMBLE, EVALUATE, PREPARE, TRAIN, Step, evaluation_keys, samples_key
from onehull.spec import Spec

if TYPE_CHECKING:
    from onehull.evaluate import Report
    from onehull.export import Bundle


@dataclass(frozen=True)
class RunResult:
    """What `run` leaves behind."""

    report: Report
    bundle: Bundle
    steps: tuple[Kept, ...]


class Where(TypedDict, total=False):
    """Options of every verb."""

    data: str | Path | None
    """Directory that the spec's paths are relative to. Default: the spec file's own."""
    out: str | Path | None
    """Directory for artifacts. Default: ``runs/NAME`` of the spec."""
    console: Console | None
    """Where progress is shown. Default: nowhere."""
    force: bool
    """Do it again even if nothing has changed."""


Engine = Literal["local", "beam"]
"""What assembles and analyses."""

AnySpec = Project | Spec | str | Path
"""An open project, a spec, or the path of one."""


def assemble(spec: AnySpec, **where: Unpack[Where]) -> Kept:
    """Joins events into samples, or reads ready-made tables: ``samples/``."""
    return _do(ASSEMBLE, spec, where)


def follow(
    project: Project, stop: Callable[[], bool], show: Callable[[str], None], commit_seconds: float = 30.0
) -> None:
    """Assembles events as they come: ``stream/``, which `assemble` makes the samples table of.

    Args:
        project: with ``data.events.lateness``.
        stop: asked several times a second.
        show: told the state in one line.
        commit_seconds: how often samples become durable.
    """
    from onehull.pipeline.stream import follow as follow_log

    follow_log(project, samples_key(project), stop, show, commit_seconds)


def prepare(spec: AnySpec, *, engine: Engine = "local", beam_options: str = "", **where: Unpack[Where]) -> Kept:
    """Analyses features and writes TFRecord shards: ``records/``.

    Args:
        spec: what is wanted.
        engine: ``beam`` assembles, where that is to be done, and analyses on a runner of Apache Beam; the artifacts are
            as good as the local ones and are kept as they are.
        beam_options: Beam's flags, for example ``--runner=FlinkRunner --flink_master=host:8081``.
        **where: see `Where`.

    Raises:
        MissingPartError: apache-beam or tensorflow-transform is not installed.
        RunnerError: Beam's flags cannot be read, or a pipeline failed.
    """
    if engine == "local":
        return _do(PREPARE, spec, where)
    from onehull.pipeline.on_beam import steps_on_beam

    project = open_project(spec, where)
    with project.locked():
        kept = [step.do(project, force=where.get("force", False)) for step in steps_on_beam(project, beam_options)]
        return kept[-1]


def train(spec: AnySpec, **where: Unpack[Where]) -> Kept:
    """Trains the model; validation chooses the epoch: ``training/``.

    Where TF_CONFIG names several workers, this process joins them; worker 0 makes the directory, which all must see.
    """
    if _follows():
        return TRAIN.join(open_project(spec, where), force=where.get("force", False))
    return _do(TRAIN, spec, where)


def evaluate(spec: AnySpec, *, baseline: Baseline = "none", **where: Unpack[Where]) -> Report:
    """Reports on the test part: ``evaluation/report.html`` and ``report.json``.

    Args:
        spec: what is wanted.
        baseline: ``single`` also trains one model a task and compares each task with it.
        **where: see `Where`.
    """
    project = open_project(spec, where, baseline)
    _do(EVALUATE, project, where)
    return read_report(project)


def export(spec: AnySpec, **where: Unpack[Where]) -> Bundle:
    """Exports the next version of the bundle, unless the latest was made from the same model and settings."""
    project = open_project(spec, where)
    with project.locked():
        return _export(project, force=where.get("force", False))


def run(spec: AnySpec, *, baseline: Baseline = "none", **where: Unpack[Where]) -> RunResult:
    """Does all of it; keeps what has not changed, and continues after an interruption.

    Args:
        spec: what is wanted.
        baseline: ``single`` also trains one model a task and compares each task with it.
        **where: see `Where`.

    Raises:
        SpecError: the spec has faults, or names files and columns that the data lack.
        DataError: the data are not as the spec says.
        ArtifactError: the output directory is in use, full or not writable.
        ExportError: the exported forms of the model disagree.
    """
    project = open_project(spec, where, baseline)
    force = where.get("force", False)
    with project.locked():
        steps = tuple(step.do(project, force=force) for step in (ASSEMBLE, PREPARE, TRAIN, EVALUATE))
        bundle = _export(project, force=force)
        return RunResult(read_report(project), bundle, steps)


def open_project(spec: AnySpec, where: Where, baseline: Baseline = "none") -> Project:
    """The project that a verb works on; it looks at its input once."""
    if isinstance(spec, Project):
        return spec.looking_once()
    data, out, console = where.get("data"), where.get("out"), where.get("console")
    return Project.open(spec, data=data, out=out, console=console, baseline=baseline).looking_once()


def _follows() -> bool:
    """Whether this process is a worker of several, and not the first."""
    if not os.environ.get("TF_CONFIG"):
        return False
    from onehull.train.workers import cluster_from_environment

    cluster = cluster_from_environment()
    return cluster is not None and cluster.index > 0


def _do(step: Step, spec: AnySpec, where: Where) -> Kept:
    project = open_project(spec, where)
    with project.locked():
        return step.do(project, force=where.get("force", False))


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
