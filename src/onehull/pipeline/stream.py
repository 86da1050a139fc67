"""The stream of a project: one process adds to it, and any process reads what has been added."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from onehull.errors import ArtifactError, DataError
from onehull.pipeline.project import Project

if TYPE_CHECKING:
    from onehull.events.stream import Stream

_LOG = ".log.json"
_PATIENCE_SECONDS = 60.0
"""A run that assembles what there is soon lets go of the stream."""


def follow(
    project: Project, key: str, stop: Callable[[], bool], show: Callable[[str], None], commit_seconds: float
) -> None:
    """Assembles what comes, until it is told to stop; all of it is durable then.

    Args:
        project: with ``data.events.lateness``.
        key: fingerprint of what the spec says of samples.
        stop: asked several times a second.
        show: told the state in one line.
        commit_seconds: how often samples become durable.

    Raises:
        DataError: the spec names no lateness, or a file is damaged.
        ArtifactError: another process follows, or the disk is full.
    """
    with stream_of(project, key, commit_seconds, _PATIENCE_SECONDS) as stream:
        if stream is None:
            raise DataError(f"{project.source}: data.events.lateness must be given to follow a log. Received None.")
        if stream.read_only:
            rule = f"{project.stream} is being added to by another process"
            raise ArtifactError(f"{rule}. Stop it, or choose another --out.")

        def told() -> bool:
            gone, held = stream.joined.impressions, stream.windows.rows
            show(f"{stream.lines.lines:,} lines, {gone:,} samples have left, {held:,} events are open")
            return stop()

        stream.run(stop=told)


@contextmanager
def stream_of(
    project: Project, key: str, commit_seconds: float = 30.0, patience: float = 0.0
) -> Iterator[Stream | None]:
    """The stream that assembly takes its samples from; None where the spec joins the log at once.

    Where another process follows the log, it is read as far as that one has come.

    Args:
        project: the project.
        key: fingerprint of what the spec says of samples.
        commit_seconds: how often samples become durable.
        patience: how long to wait for a process that adds to the stream, in seconds.
    """
    from onehull.events.stream import Stream

    if not project.streamed:
        yield None
        return
    links = project.out / ".stream-links"
    with _owned(project, patience) as owned:
        try:
            beside = None if owned else links
            yield Stream(project.spec, project.data, project.stream, key, links=beside, commit_seconds=commit_seconds)
        finally:
            shutil.rmtree(links, ignore_errors=True)


def last_epoch(project: Project) -> str:
    """Name of the stream's last epoch; empty where there is none."""
    from onehull.events.stream.epochs import Epochs

    epochs = Epochs(project.stream).all()
    return epochs[-1].name if epochs else ""


def note_log(directory: Path, project: Project) -> None:
    """Keeps the sizes of a log's files beside the samples that are made of it."""
    sizes = {name: size for name, size, _ in project.input_state.log}
    (directory / _LOG).write_text(json.dumps(sizes), encoding="utf-8")


def has_grown(directory: Path, project: Project) -> bool:
    """Whether a log can be the one that samples were made of, with more in it.

    Files of it may have gone since: the stream keeps what it has read. One that is smaller, or a log of which no file
    is left, is another log.
    """
    try:
        before = json.loads((directory / _LOG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    now = {name: size for name, size, _ in project.input_state.log if name in before}
    return bool(now) and all(size >= before[name] for name, size in now.items())


def discard_stream(project: Project) -> None:
    """Forgets what was assembled, so that the log is read anew.

    Raises:
        ArtifactError: another process adds to it.
    """
    if not project.stream.exists():
        return
    with _owned(project) as owned:
        if not owned:
            raise ArtifactError(f"{project.stream} is being added to by another process. Stop it first.")
        shutil.rmtree(project.stream)


@contextmanager
def _owned(project: Project, patience: float = 0.0) -> Iterator[bool]:
    project.out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(project.out / ".stream.lock", timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
