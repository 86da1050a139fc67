"""A project: what is wanted, where its input is, and where its artifacts go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from rich.console import Console

from onehull.errors import ArtifactError, SpecError
from onehull.pipeline.cache import FileState, file_state
from onehull.pipeline.checking import check
from onehull.spec import Spec
from onehull.spec.data import FileSplit
from onehull.spec.events import WORLD_MARKER

Baseline = Literal["none", "single"]


@dataclass(frozen=True)
class InputState:
    """Names, sizes and times of change of the files that a project reads."""

    log: tuple[FileState, ...]
    """Of the event log."""
    rest: tuple[FileState, ...]
    """Of tables, of ready-made samples, of a simulated world's marker."""


@dataclass(frozen=True)
class Project:
    """A spec, its data and its output directory; artifacts are found by the properties below."""

    spec: Spec
    data: Path
    out: Path
    console: Console
    source: str = "spec"
    baseline: Baseline = "none"
    """What each task is compared with in the report: ``single`` trains one model a task."""
    seen: Callable[[], InputState] | None = None
    """The input as a verb first found it; None: it is looked at whenever it is asked for."""

    @classmethod
    def open(
        cls,
        spec: Spec | str | Path,
        *,
        data: str | Path | None = None,
        out: str | Path | None = None,
        console: Console | None = None,
        baseline: Baseline = "none",
    ) -> Project:
        """Opens a project.

        Args:
            spec: a spec, or the path of its YAML file.
            data: directory that the spec's paths are relative to. Default: the spec file's own.
            out: directory for artifacts; made when it is missing. Default: ``runs/NAME``.
            console: where progress is shown. Default: nowhere.
            baseline: what each task is compared with in the report.

        Raises:
            SpecError: the spec is not valid, or names files or columns that the data do not have.
        """
        path = None if isinstance(spec, Spec) else Path(spec)
        document = spec if isinstance(spec, Spec) else check(spec)
        root = Path(data) if data is not None else (path.parent if path is not None else Path.cwd())
        directory = Path(out) if out is not None else Path("runs") / document.name
        return cls(document, root, directory, console or Console(quiet=True), str(path or "spec"), baseline)

    def with_spec(self, spec: Spec) -> Project:
        """The same project with another spec."""
        return replace(self, spec=spec)

    def looking_once(self) -> Project:
        """The same project, which looks at its input when that is first asked for, and notices no change after that.

        A log may grow while a verb is at work: its steps go on from the samples that it made, and the next verb
        notices.
        """
        return replace(self, seen=cache(self._look))

    @property
    def input_state(self) -> InputState:
        """What tells whether the input has changed, without reading it."""
        return self.seen() if self.seen is not None else self._look()

    @property
    def streamed(self) -> bool:
        """Whether the log is assembled as a stream."""
        events = self.spec.data.events
        return events is not None and events.lateness is not None

    def check_data(self) -> None:
        """Raises SpecError for every file or column that the spec names and the data lack."""
        from onehull.events import data_faults

        faults = data_faults(self.spec, self.data)
        if faults:
            raise SpecError(faults, self.source)

    @property
    def samples(self) -> Path:
        """The samples table that `assemble` writes."""
        return self.out / "samples" / "samples.parquet"

    @property
    def stream(self) -> Path:
        """Samples that have left a streamed log, and what is open."""
        return self.out / "stream"

    @property
    def transform(self) -> Path:
        """What analysis found."""
        return self.out / "records" / "transform.json"

    @property
    def counts(self) -> Path:
        """Counts of ids, for the next update."""
        return self.out / "records" / "counts.parquet"

    @property
    def records(self) -> Path:
        """The TFRecord shards."""
        return self.out / "records" / "shards"

    @property
    def training(self) -> Path:
        """The trained model, its checkpoints and its history."""
        return self.out / "training"

    @property
    def baselines(self) -> Path:
        """Single-task models, one directory a task."""
        return self.out / "baselines"

    @property
    def evaluation(self) -> Path:
        """The report."""
        return self.out / "evaluation"

    @property
    def bundle(self) -> Path:
        """The bundle's directory; its versions are the children."""
        return self.out / "bundle" / self.spec.name

    def _look(self) -> InputState:
        data = self.spec.data
        log = [data.events.impressions, data.events.feedback] if data.events is not None else []
        tables = [table.path for table in (data.tables.user, data.tables.item) if table is not None]
        tables += [path for path in (data.samples, data.holdout) if path is not None]
        if isinstance(data.split, FileSplit):
            tables += [data.split.validation, data.split.test]
        return InputState(self._states(log), self._states([*tables, WORLD_MARKER]))

    def _states(self, patterns: list[str]) -> tuple[FileState, ...]:
        from onehull.events.files import find_files

        files = sorted({file for pattern in patterns for file in find_files(self.data, pattern)})
        return tuple(state for file in files if (state := file_state(file, self.data)) is not None)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time works in an output directory.

        Raises:
            ArtifactError: another run holds it, or it cannot be written.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with FileLock(self.out / ".lock", timeout=0):
                yield
        except Timeout as error:
            remedy = "Wait for it, or choose another directory."
            raise ArtifactError(f"{self.out} is in use by another run. {remedy}") from error
        except PermissionError as error:
            raise ArtifactError(f"{self.out} cannot be written: {error}") from error
