"""Files and directories take the place of others whole, or not at all."""

import resource
from pathlib import Path

import pytest

from onehull.errors import ArtifactError
from onehull.files import replace_directory, replacing, restore_directory, write_whole


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_takes_the_place_of_another_one(tmp_path: Path):
    path = tmp_path / "deep" / "state.json"
    write_whole(path, "é")
    write_whole(path, b"\x00new")
    assert path.read_bytes() == b"\x00new"
    assert names(path.parent) == ["state.json"]


def test_a_block_that_fails_leaves_the_file_that_was_there(tmp_path: Path):
    path = tmp_path / "state.json"
    write_whole(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["state.json"]


def test_what_a_killed_run_has_left_is_overwritten(tmp_path: Path):
    (tmp_path / ".table.tmp").write_text("of a run that was killed")
    with replacing(tmp_path / "table") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["table"]
    assert (tmp_path / "table").read_text() == "new"


def test_a_full_disk_is_one_error_and_the_file_is_intact(tmp_path: Path):
    path = tmp_path / "state.json"
    write_whole(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(ArtifactError, match=r"state\.json cannot be written.*intact\. Free some space"):
            write_whole(path, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["state.json"]


def test_a_directory_takes_the_place_of_another_one(tmp_path: Path):
    place = tmp_path / "shards"
    for content in ("first", "second"):
        building = tmp_path / ".building"
        building.mkdir()
        (building / "file").write_text(content)
        replace_directory(building, place)
        assert (place / "file").read_text() == content
    assert names(tmp_path) == ["shards"]


def test_a_directory_that_was_set_aside_comes_back(tmp_path: Path):
    place = tmp_path / "shards"
    restore_directory(place)
    assert names(tmp_path) == []
    (tmp_path / ".shards.old").mkdir()
    restore_directory(place)
    assert names(tmp_path) == ["shards"]
    (tmp_path / ".shards.old").mkdir()  # left behind a swap that ended well
    restore_directory(place)
    assert names(tmp_path) == [".shards.old", "shards"]
