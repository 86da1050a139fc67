"""An artifact directory is complete or absent, kept while its key holds, and continued after an interruption."""

import json
from pathlib import Path

import pytest

from onehull.errors import ArtifactError
from onehull.pipeline.cache import build_once, fingerprint, finished_key


def write(text):
    def build(directory: Path) -> None:
        (directory / "out.txt").write_text(text)

    return build


def refuse(directory: Path) -> None:
    raise AssertionError("must not be built again")


def test_what_has_not_changed_is_kept(tmp_path: Path):
    target = tmp_path / "step"
    assert not build_once(target, "k1", write("one")).kept
    assert build_once(target, "k1", refuse).kept
    assert not build_once(target, "k2", write("two")).kept
    assert (target / "out.txt").read_text() == "two"
    assert finished_key(target) == "k2"


def test_force_builds_again(tmp_path: Path):
    build_once(tmp_path / "step", "k", write("one"))
    build_once(tmp_path / "step", "k", write("two"), force=True)
    assert (tmp_path / "step" / "out.txt").read_text() == "two"


def test_an_interrupted_build_leaves_the_last_artifact_and_continues(tmp_path: Path):
    target = tmp_path / "step"
    build_once(target, "k1", write("good"))

    def interrupted(directory: Path) -> None:
        (directory / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(target, "k2", interrupted)
    assert (target / "out.txt").read_text() == "good"
    assert finished_key(target) == "k1"

    def continued(directory: Path) -> None:
        assert (directory / "half.txt").read_text() == "half"
        (directory / "out.txt").write_text("whole")

    build_once(target, "k2", continued)
    assert (target / "out.txt").read_text() == "whole"


def test_half_work_for_another_key_is_thrown_away(tmp_path: Path):
    target = tmp_path / "step"

    def interrupted(directory: Path) -> None:
        (directory / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(target, "k1", interrupted)
    build_once(target, "k2", write("two"))
    assert sorted(path.name for path in target.glob("[a-z]*")) == ["out.txt"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path):
    target = tmp_path / "step"
    build_once(target, "k1", write("good"))
    target.rename(tmp_path / ".step.old")
    assert build_once(target, "k1", refuse).kept
    assert (target / "out.txt").read_text() == "good"


def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path: Path):
    target = tmp_path / "step"
    build_once(target, "k1", write("good"))

    def full(directory: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ArtifactError, match=r"No space left.*last good artifact is intact.*run the same command"):
        build_once(target, "k2", full)
    assert (target / "out.txt").read_text() == "good"


def test_a_stamp_that_cannot_be_read_is_no_artifact(tmp_path: Path):
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / ".step.json").write_text("{")
    assert finished_key(tmp_path / "step") is None
    assert not build_once(tmp_path / "step", "k", write("new")).kept
    assert json.loads((tmp_path / "step" / ".step.json").read_text())["key"] == "k"


def test_a_fingerprint_depends_on_content_and_not_on_order_of_keys():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
