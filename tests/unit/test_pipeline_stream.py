"""A log that grows while verbs are at work on it."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from filelock import FileLock

from onehull.errors import ArtifactError, DataError
from onehull.events.stream import Stream
from onehull.pipeline import Project, assemble, prepare, run
from onehull.pipeline.steps import samples_key
from onehull.spec import Spec, load_spec
from tests.unit.test_events_stream import document, events, write

SMALL = {
    "model": {"embedding_dim": 2, "bottom": [4], "tower": []},
    "training": {"epochs": 1, "batch_size": 256, "tensorboard": False},
}
LOG = events(1500, 21)


def small(lateness: str | None) -> Spec:
    return load_spec({**document(lateness), **SMALL})


def grow(data: Path, number: int = 1) -> None:
    """One more file of events."""
    write(data / f"{number}.jsonl", events(3, number))


@contextmanager
def growing(data: Path) -> Iterator[None]:
    """The log gets another file ten times a second."""
    ended = threading.Event()

    def work() -> None:
        number = 0
        while not ended.wait(0.1):
            number += 1
            grow(data, number)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("lateness", [None, "10m"])
def test_a_run_ends_though_the_log_grows_and_the_next_one_sees_that_it_has(tmp_path: Path, lateness: str | None):
    data, out = tmp_path / "data", tmp_path / "out"
    write(data / "0.jsonl", LOG)
    project = Project.open(small(lateness), data=data, out=out)
    with growing(data):
        first = run(project)
    assert len(list(data.iterdir())) > 5
    assert [step.kept for step in first.steps] == [False] * 4
    second = run(project)
    assert [step.kept for step in second.steps] == [False] * 4
    assert second.bundle.manifest.version == 2
    assert [step.kept for step in run(project).steps] == [True] * 4


def test_later_steps_go_on_from_a_streams_samples_however_the_log_has_grown(tmp_path: Path):
    data = tmp_path / "data"
    write(data / "0.jsonl", LOG)
    streamed = Project.open(small("10m"), data=data, out=tmp_path / "streamed")
    at_once = Project.open(small(None), data=data, out=tmp_path / "at_once")
    for project in (streamed, at_once):
        assemble(project)
    grow(data)
    assert not prepare(streamed).kept
    assert prepare(streamed).kept
    with pytest.raises(ArtifactError, match=r"made from another spec or other data.*onehull assemble"):
        prepare(at_once)
    assert not assemble(streamed).kept
    assert not prepare(streamed).kept


def test_samples_are_made_again_when_the_follower_has_come_further_though_the_log_has_not_grown(tmp_path: Path):
    data = tmp_path / "data"
    write(data / "0.jsonl", LOG[:400])
    project = Project.open(small("10m"), data=data, out=tmp_path / "out")
    key = samples_key(project)
    Stream(project.spec, data, project.stream, key).run()
    write(data / "1.jsonl", LOG[400:])
    with FileLock(project.out / ".stream.lock"):  # as a process has it that follows
        assert not assemble(project).kept
        assert assemble(project).kept
        assert pl.read_parquet(project.samples).height < 400
        assert not prepare(project).kept
        Stream(project.spec, data, project.stream, key).run()
        assert not assemble(project).kept
        assert pl.read_parquet(project.samples).height > 400
        assert not prepare(project).kept
        assert assemble(project).kept


def test_later_steps_refuse_samples_of_another_log_or_of_another_table(tmp_path: Path):
    data, out = tmp_path / "data", tmp_path / "out"
    write(data / "0.jsonl", LOG)
    (data / "users.csv").write_text("user,age\nu1,3\nu2,5\n")
    table = {"tables": {"user": {"path": "users.csv", "key": "user"}}}
    features = {"hour": {"kind": "numeric"}, "age": {"kind": "numeric"}}
    spec = load_spec({**document("10m", **table), **SMALL, "features": features})
    assemble(Project.open(spec, data=data, out=out))
    assert not prepare(Project.open(spec, data=data, out=out)).kept
    refused = pytest.raises(ArtifactError, match=r"made from another spec or other data.*onehull assemble")
    (data / "users.csv").write_text("user,age\nu1,3\nu2,6\nu3,1\n")
    with refused:
        prepare(Project.open(spec, data=data, out=out))
    assert not assemble(Project.open(spec, data=data, out=out)).kept
    other = tmp_path / "other"
    write(other / "0.jsonl", LOG[:100])
    shutil.copy2(data / "users.csv", other)
    with refused:
        prepare(Project.open(spec, data=other, out=out))


def test_a_run_before_the_followers_first_epoch_says_what_to_wait_for(tmp_path: Path):
    data, out = tmp_path / "data", tmp_path / "out"
    write(data / "0.jsonl", LOG)
    project = Project.open(small("10m"), data=data, out=out)
    stream = Stream(project.spec, data, project.stream, samples_key(project), links=tmp_path / "links")
    with pytest.raises(DataError, match=r"made 0 lines durable.*next epoch \(--commit-seconds\) and run this again"):
        assemble_with(project, stream, tmp_path)


def test_a_stream_without_an_impression_names_the_files_and_the_first_rejected_line(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "0.jsonl").write_text("{}\n" * 3)
    project = Project.open(small("10m"), data=data, out=tmp_path / "out")
    with pytest.raises(
        DataError, match=r"\*\*/\*\.jsonl: no usable impression in 3 lines of 1 files.*0\.jsonl, line 1"
    ):
        assemble(project)


def assemble_with(project: Project, stream: Stream, directory: Path) -> None:
    from onehull.events import assemble as assemble_events

    assemble_events(project.spec, project.data, directory, stream=stream)
