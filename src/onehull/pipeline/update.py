"""`update`: yesterday's bundle and today's data → today's bundle, by the same steps as `run`.

What differs is where a step begins: the transform is grown instead of analysed, and training starts from the bundle's
model. Everything else, also what is kept and how an interrupted run goes on, is that of the steps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from onehull.pipeline.cache import fingerprint, finished_key
from onehull.pipeline.project import Project
from onehull.pipeline.steps import ASSEMBLE, EVALUATE, PREPARE, TRAIN, Step, prepare_project
from onehull.pipeline.verbs import AnySpec, RunResult, Where, open_project, read_report

if TYPE_CHECKING:
    import polars as pl

    from onehull.export import Bundle
    from onehull.features import Measured
    from onehull.pipeline.yesterday import Yesterday

_BEGUN, _EXPORTED = ".begun.json", ".exported.json"


def update(
    spec: AnySpec,
    bundle: str | Path,
    *,
    decay: float = 0.9,
    epochs: int | None = 1,
    new_ids: Literal["unseen", "initial"] = "unseen",
    **where: Unpack[Where],
) -> RunResult:
    """Trains a bundle's model on with new data, and exports the next version of the bundle.

    Weights, optimizer and balancer go on from the bundle. Ids that have become frequent enough get a row of their own;
    what was learned of all others stays. Counts of ids and training statistics decay. Mean and deviation of numbers,
    boundaries of buckets and the constants of heads stay as they were first measured.

    An output directory belongs to one update: the same command again keeps or continues it, and goes on from the
    version that it began with, also when the bundle has newer ones by now.

    Args:
        spec: what is wanted; `data`, `training`, `balance`, `fusion` and what serving reads may differ from the
            bundle's spec, the model may not.
        bundle: directory of one version, or of all: the latest is taken.
        decay: what yesterday's counts and statistics are worth today, 0 … 1.
        epochs: passes over today's rows; None takes the spec's.
        new_ids: where the rows of new ids begin: as ``unseen`` ids were until now, so that growing changes no
            prediction, or at ``initial`` values.
        **where: see `Where`. `data` is today's.

    Raises:
        SpecError: the spec has faults, describes another model than the bundle's, or names files and columns that the
            data lack.
        DataError: the data are not as the spec says.
        ArtifactError: the bundle is absent, damaged or too old, or the output directory is in use, full or not
            writable.
        ExportError: the exported forms of the model disagree.
        ValueError: `decay` or `epochs` is out of range.
    """
    from onehull.pipeline.yesterday import Yesterday

    project = _with_epochs(open_project(spec, where), epochs)
    force = where.get("force", False)
    with project.locked():
        version = _version_begun(project, Path(bundle))
        yesterday = Yesterday.open(version, project.spec, decay=decay, new_ids=new_ids, source=project.source)
        _note_begun(project, Path(bundle), yesterday.bundle)
        steps = _steps(yesterday)
        kept = tuple(step.do(project, force=force) for step in steps)
        today = _export(project, yesterday, steps[-1], force=force)
        return RunResult(read_report(project), today, kept)


def _steps(yesterday: Yesterday) -> tuple[Step, ...]:
    """The steps of a run, with a key that also depends on the bundle."""

    def key_of(step: Step) -> Any:
        return lambda project: fingerprint(step.key(project), yesterday.key)

    def prepare(project: Project, partial: Path) -> None:
        from onehull.features import grow

        def grown(samples: pl.LazyFrame) -> Measured:
            old = yesterday.bundle
            return grow(project.spec.features, old.transform, old.counts, samples, decay=yesterday.decay)

        prepare_project(project, partial, grown)

    def train(project: Project, partial: Path) -> None:
        from onehull.features import Transform
        from onehull.train import train

        start = yesterday.start(Transform.load(project.transform))
        train(project.spec, project.records, partial, progress=not project.console.quiet, start=start)

    prepared = Step(PREPARE.name, PREPARE.directory, key_of(PREPARE), prepare, ASSEMBLE)
    trained = Step(TRAIN.name, TRAIN.directory, key_of(TRAIN), train, prepared)
    evaluated = Step(EVALUATE.name, EVALUATE.directory, key_of(EVALUATE), EVALUATE.build, trained)
    return ASSEMBLE, prepared, trained, evaluated


def _export(project: Project, yesterday: Yesterday, evaluated: Step, *, force: bool) -> Bundle:
    from onehull.export import open_bundle
    from onehull.pipeline.bundle import export_project

    key = fingerprint(
        finished_key(evaluated.directory(project)),
        project.spec.section("name", "description", "data", "fusion", "serving", "monitoring"),
    )
    found = _read(project.out / _EXPORTED)
    path = yesterday.directory / str(found.get("version"))
    if not force and found.get("key") == key and path.is_dir():
        bundle, state = open_bundle(path), "[dim]kept[/]"
    else:
        bundle = export_project(project, yesterday)
        _write(project.out / _EXPORTED, {"key": key, "version": bundle.path.name})
        state = f"version {bundle.manifest.version}, from {yesterday.bundle.manifest.version}"
    project.console.print(f"[green]✓[/] [bold]export[/]  {state}  [dim]{bundle.path}[/]")
    return bundle


def _version_begun(project: Project, bundle: Path) -> Path:
    """The version that this output directory began with; where it did not begin yet, what was asked for."""
    begun = _read(project.out / _BEGUN)
    return Path(begun["version"]) if begun.get("bundle") == str(bundle.resolve()) else bundle


def _note_begun(project: Project, bundle: Path, version: Bundle) -> None:
    _write(project.out / _BEGUN, {"bundle": str(bundle.resolve()), "version": str(version.path.resolve())})


def _with_epochs(project: Project, epochs: int | None) -> Project:
    if epochs is None:
        return project
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1. Received {epochs}.")
    training = project.spec.training.model_copy(update={"epochs": epochs})
    return project.with_spec(project.spec.model_copy(update={"training": training}))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, content: dict[str, str]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
