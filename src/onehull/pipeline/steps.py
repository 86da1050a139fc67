"""The five steps: what each depends on, and how it fills its directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from onehull.errors import ArtifactError
from onehull.pipeline.cache import Kept, build_once, fingerprint, finished_key
from onehull.pipeline.progress import bar
from onehull.pipeline.project import Baseline, Project
from onehull.pipeline.stream import discard_stream, has_grown, last_epoch, note_log, stream_of

if TYPE_CHECKING:
    import polars as pl

    from onehull.events.log import Progress
    from onehull.features import Measured


@dataclass(frozen=True)
class Step:
    """One arrow of the pipeline."""

    name: str
    directory: Callable[[Project], Path]
    key: Callable[[Project], str]
    """Fingerprint of everything that the artifact depends on; reads no artifact but cheap state."""
    build: Callable[[Project, Path], str | None]
    """Fills the directory; may return the key of what it has made, where that is known only then."""
    after: Step | None = None
    forget: Callable[[Project], None] = lambda _: None
    """Removes what the step keeps beside its directory, so that it begins anew."""
    standing: Callable[[Project], str] | None = None
    """The key that the steps behind it ask for, where that need not be the one that it would have now."""

    def do(self, project: Project, *, force: bool = False) -> Kept:
        """Makes the artifact, or keeps it.

        Raises:
            ArtifactError: the step before has not been done for this spec and these data.
        """
        self._require(project)
        if force:
            self.forget(project)

        def build(partial: Path) -> str | None:
            return self.build(project, partial)

        kept = build_once(self.directory(project), self.key(project), build, force=force)
        state = "[dim]kept[/]" if kept.kept else f"{kept.seconds:.1f} s"
        project.console.print(f"[green]✓[/] [bold]{self.name}[/]  {state}  [dim]{self.directory(project)}[/]")
        return kept

    def join(self, project: Project, *, force: bool = False) -> Kept:
        """Takes part in what worker 0 of a training makes, in the directory where it makes it.

        Raises:
            ArtifactError: as `do`.
        """
        self._require(project)
        directory, key = self.directory(project), self.key(project)
        start = time.monotonic()
        kept = not force and finished_key(directory) == key
        if not kept:
            self.build(project, directory.with_name(f".{directory.name}.partial"))
        return Kept(directory.name, key, kept, time.monotonic() - start)

    def _require(self, project: Project) -> None:
        before = self.after
        if before is None:
            return
        found = finished_key(before.directory(project))
        if found != (before.standing or before.key)(project):
            why = "is missing" if found is None else "was made from another spec or other data"
            command = f"onehull {before.name} {project.source} --data {project.data} --out {project.out}"
            raise ArtifactError(f"{before.directory(project)} {why}. Make it with: {command}")


_LEARNING = {"tower", "head", "transform", "loss", "huber_delta"}
"""Fields of a task that say how it is learned, which the data do not depend on."""


def _assemble_key(project: Project) -> str:
    """Of the samples; where the log is streamed also of its last epoch, which another process may add to."""
    return _samples_of(project, last_epoch(project) if project.streamed else None)


def _samples_of(project: Project, epoch: str | None) -> str:
    """``REST-LOG-EPOCH``: what does not change as a log grows, what does, and how far it has been assembled."""
    state = project.input_state
    rest = fingerprint(samples_key(project), project.spec.section("data", "leakage"), state.rest)
    return "-".join([rest, fingerprint(state.log), *([epoch] if epoch is not None else [])])


def _standing_key(project: Project) -> str:
    """Key of the samples that the later steps go on from.

    A log that is assembled as a stream is one that grows: samples of it are good, however much it has grown since.
    """
    key, directory = _assemble_key(project), project.samples.parent
    found = finished_key(directory)
    if not project.streamed or found is None or found.partition("-")[0] != key.partition("-")[0]:
        return key
    return found if has_grown(directory, project) else key


def samples_key(project: Project) -> str:
    """Fingerprint of what the spec says of each sample, whatever the input and the split."""
    spec = project.spec
    columns = {name: (f.kind, f.column, getattr(f, "separator", None)) for name, f in spec.features.items()}
    labels = {name: task.model_dump(mode="json", exclude=_LEARNING) for name, task in spec.tasks.items()}
    data = spec.data.model_dump(mode="json", exclude={"split"})
    column = getattr(spec.data.split, "column", None)
    return fingerprint(_code_version(), data, column, columns, labels)


def _assemble(project: Project, partial: Path) -> str:
    from onehull.events import assemble

    def assembled(progress: Progress) -> str | None:
        with stream_of(project, samples_key(project)) as stream:
            assemble(project.spec, project.data, partial, progress=progress, stream=stream)
            return stream.epoch if stream is not None else None

    epoch = assemble_project(project, partial, assembled)
    if project.streamed:
        note_log(partial, project)
    return _samples_of(project, epoch)


def assemble_project(project: Project, partial: Path, assembled: Callable[[Progress], str | None]) -> str | None:
    """Fills a directory with the samples, what was rejected, and the report of the data.

    Args:
        project: whose log, or ready-made tables, are assembled.
        partial: the directory.
        assembled: puts the samples into it; says of which epoch of a stream they are.

    Returns:
        What `assembled` says.
    """
    from onehull.pipeline.inspection import inspect

    project.check_data()
    with bar(project.console, "assemble") as shown:
        epoch = assembled(shown.share)
        inspect(project, partial, shown)
    return epoch


_PREPARED = 2
"""Raised when the step writes other files than before."""


def _prepare_key(project: Project) -> str:
    return fingerprint(_standing_key(project), _PREPARED, project.spec.section("features", "records"))


def _prepare(project: Project, partial: Path) -> None:
    from onehull.features import measure

    prepare_project(project, partial, lambda samples: measure(project.spec.features, samples))


def prepare_project(project: Project, partial: Path, measured: Callable[[pl.LazyFrame], Measured]) -> None:
    """Fills a directory with the transform, the counts of ids and the shards.

    Args:
        project: whose samples are assembled.
        partial: the directory.
        measured: the samples → their transform and counts.
    """
    with bar(project.console, "prepare") as shown:
        shown.begin("analysing features")
        import polars as pl

        from onehull.records import write_records

        samples = pl.scan_parquet(project.samples)
        found = measured(samples)
        found.transform.save(partial / project.transform.name)
        found.counts.save(partial / project.counts.name)
        shown.begin("writing shards", total=samples.select(pl.len()).collect().item())
        tasks = project.spec.tasks
        write_records(
            project.samples,
            found.transform,
            list(tasks),
            partial / "shards",
            settings=project.spec.records,
            quantities={name: task.duration for name, task in tasks.items() if task.kind == "regression"},
            progress=shown.advance,
        )


def _train_key(project: Project) -> str:
    return fingerprint(_prepare_key(project), project.spec.section("tasks", "model", "balance", "training"))


def _train(project: Project, partial: Path) -> None:
    from onehull.train import train

    train(project.spec, project.records, partial, progress=not project.console.quiet)


def _evaluate_key(project: Project) -> str:
    return _evaluation_key(_train_key(project), project.baseline)


def evaluation_keys(project: Project) -> set[str]:
    """Keys of a current evaluation, with or without a baseline."""
    train_key = _train_key(project)
    return {_evaluation_key(train_key, baseline) for baseline in get_args(Baseline)}


def _evaluation_key(train_key: str, baseline: Baseline) -> str:
    return fingerprint(train_key, baseline)


def _evaluate(project: Project, partial: Path) -> None:
    from onehull.pipeline.evaluation import evaluate_project

    evaluate_project(project, partial, _train_key(project))


def _code_version() -> str:
    from importlib.metadata import version

    return version("onehull")


ASSEMBLE = Step(
    "assemble",
    lambda p: p.samples.parent,
    _assemble_key,
    _assemble,
    forget=discard_stream,
    standing=_standing_key,
)
PREPARE = Step("prepare", lambda p: p.transform.parent, _prepare_key, _prepare, ASSEMBLE)
TRAIN = Step("train", lambda p: p.training, _train_key, _train, PREPARE)
EVALUATE = Step("evaluate", lambda p: p.evaluation, _evaluate_key, _evaluate, TRAIN)
