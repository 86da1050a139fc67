"""`update`: yesterday's bundle and today's data make today's bundle, and nothing that was learned is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from onehull.cli.app import build_app
from onehull.errors import ArtifactError, SpecError
from onehull.export import Bundle, bundle_versions, open_bundle
from onehull.features import new_rows
from onehull.features.transform import Transform, VocabularyTransform
from onehull.metrics import auc
from onehull.pipeline import Project, RunResult, update
from onehull.pipeline.yesterday import differences
from onehull.records import read_records
from onehull.spec import Spec, load_spec
from onehull.train import predict
from onehull.train.warm_start import Start


@dataclass(frozen=True)
class Updated:
    """A small bundle of four days of log, of which two were trained on, brought up to date with the last two."""

    project: Project
    before: Bundle
    result: RunResult


def short_split(spec: Spec, **training: Any) -> Spec:
    """The spec with a day's split: the last hours are validation and test."""
    document = json.loads(spec.model_dump_json())
    document["data"]["split"] = {"by": "time", "validation": "4h", "test": "8h"}
    document["training"].update(training)
    return load_spec(document)


def last_days(data: Path, target: Path, days: int) -> Path:
    """A directory with the last days of a log, and its tables."""
    shutil.copytree(data, target)
    for stream in ("impressions", "feedback"):
        for path in sorted(target.glob(f"{stream}-*.jsonl"))[:-days]:
            path.unlink()
    return target


@pytest.fixture(scope="module")
def updated(small_feed, tmp_path_factory) -> Updated:
    base = tmp_path_factory.mktemp("update")
    before = open_bundle(shutil.copytree(open_bundle(small_feed.bundle).path, base / "video_feed" / "1"))
    data = last_days(small_feed.data, base / "today", days=2)
    project = Project.open(short_split(small_feed.spec), data=data, out=base / "out")
    return Updated(project, before, update(project, base / "video_feed"))


def test_the_next_version_stands_beside_the_one_that_it_began_with(updated: Updated):
    bundle = updated.result.bundle
    assert bundle.manifest.version == 2
    assert bundle.path == updated.before.path.parent / "2"
    assert [step.name for step in updated.result.steps] == ["samples", "records", "training", "evaluation"]
    history = json.loads((updated.project.training / "history.json").read_text())
    assert history["epoch"] == 1


def test_old_ids_keep_their_places_and_new_ones_stand_behind_them(updated: Updated):
    old, new = updated.before.transform, updated.result.bundle.transform
    fresh = new_rows(old, new)
    assert sum(map(len, fresh.values())) > 0
    for name, rows in fresh.items():
        before, after = old.features[name], new.features[name]
        assert isinstance(before, VocabularyTransform)
        assert isinstance(after, VocabularyTransform)
        assert after.values[: len(before.values)] == before.values
        assert rows.tolist() == list(range(2 + len(before.values), 2 + len(after.values)))
    assert new.features["activity"] == old.features["activity"]
    assert new.features["duration"] == old.features["duration"]


def test_a_day_of_training_makes_the_model_better_on_the_hours_after_it(updated: Updated):
    before = Start(updated.before.keras_path, None, updated.before.transform, updated.result.bundle.transform).begin()
    after = keras.models.load_model(updated.result.bundle.keras_path, compile=False)
    data = read_records(updated.project.records, "test", batch_size=4096)
    labels = [batch for _, batch in data]
    for task in ("click", "like"):
        truth = np.concatenate([part[task].numpy().ravel() for part in labels])
        was, now = (auc(truth, predict(model, data)[task]) for model in (before, after))
        assert was is not None
        assert now is not None
        assert now > was + 0.005


def test_counts_and_statistics_go_on_decayed(updated: Updated):
    old, new = updated.before, updated.result.bundle
    train = pl.read_parquet(updated.project.samples).filter(pl.col("split") == "train")
    rows = 0.9 * old.statistics.rows["train"]
    assert new.statistics.rows["train"] == round(rows + len(train))
    user = train["x.user_id"].drop_nulls()[0]
    was, now = (dict(bundle.counts.tables["user_id"].rows()).get(user, 0.0) for bundle in (old, new))
    assert now == pytest.approx(0.9 * was + (train["x.user_id"] == user).to_numpy().sum())
    missing = train["x.age_group"].null_count()
    expected = (rows * old.statistics.features["age_group"].missing_share + missing) / (rows + len(train))
    assert new.statistics.features["age_group"].missing_share == pytest.approx(expected)
    likes, before = train["y.like"].drop_nulls().to_numpy(), old.statistics.tasks["like"]
    assert before.mean_label is not None
    weight = 0.9 * before.labels
    expected = (weight * before.mean_label + likes.sum()) / (weight + len(likes))
    assert new.statistics.tasks["like"].mean_label == pytest.approx(expected)
    assert new.items is not None
    assert new.items["popularity"].sum() == pytest.approx(1.0)


def test_the_same_command_again_keeps_everything_and_makes_no_version(updated: Updated):
    again = update(updated.project, updated.before.path.parent)
    assert [step.kept for step in again.steps] == [True] * 4
    assert again.bundle.manifest.version == 2
    assert bundle_versions(updated.before.path.parent) == [1, 2]


def test_the_verb_does_the_same_and_says_what_it_kept(updated: Updated, tmp_path: Path):
    spec = tmp_path / "feed.json"
    spec.write_text(updated.project.spec.model_dump_json())
    places = ["--data", str(updated.project.data), "--out", str(updated.project.out)]
    done = CliRunner().invoke(build_app(), ["update", str(spec), "--bundle", str(updated.before.path.parent), *places])
    assert done.exit_code == 0, done.output
    assert done.output.count("kept") == 5


def test_a_second_day_begins_with_the_first(updated: Updated, tmp_path: Path):
    versions = shutil.copytree(updated.before.path.parent, tmp_path / "video_feed")
    data = last_days(updated.project.data, tmp_path / "data", days=1)
    project = replace(updated.project, data=data, out=tmp_path / "out")
    result = update(project, versions, decay=0.5, new_ids="initial")
    assert result.bundle.manifest.version == 3
    two, three = (open_bundle(versions / number).transform for number in ("2", "3"))
    assert set(new_rows(two, three)) == {name for name, f in two.features.items() if isinstance(f, VocabularyTransform)}
    assert update(project, versions, decay=0.5, new_ids="initial").bundle.manifest.version == 3


def test_another_model_is_refused_with_each_difference_before_anything_is_done(updated: Updated, tmp_path: Path):
    document = json.loads(updated.project.spec.model_dump_json())
    document["model"]["bottom"] = [32]
    document["features"]["tags"]["max_length"] = 3
    document["features"]["user_id"]["min_count"] = 5
    del document["features"]["device"]
    project = Project.open(load_spec(document), data=updated.project.data, out=tmp_path / "out")
    with pytest.raises(SpecError) as caught:
        update(project, updated.before.path)
    places = {fault.place for fault in caught.value.faults}
    assert {"model.bottom", "features.tags.max_length", "features.device.kind"} <= places
    assert "features.user_id.min_count" not in places
    assert "model.bottom must be [128, 64], as in the bundle that training begins with. Received [32]" in str(
        caught.value
    )
    assert "onehull run" in str(caught.value)
    assert not (tmp_path / "out" / "samples").exists()


def test_what_weights_do_not_depend_on_may_differ(updated: Updated):
    document = json.loads(updated.project.spec.model_dump_json())
    document["training"]["learning_rate"] = 0.5
    document["balance"] = {"kind": "pcgrad"}
    document["features"]["user_id"].update(min_count=7, max_size=1000)
    document["tasks"]["like"]["window"] = "1h"
    document["fusion"]["formula"] = "click"
    assert list(differences(updated.before.spec, load_spec(document))) == []
    order = {name: document["tasks"][name] for name in reversed(document["tasks"])}
    assert [f.place for f in differences(updated.before.spec, load_spec({**document, "tasks": order}))] == ["tasks"]


@pytest.mark.parametrize("name", ["model.keras", "training/slots.npz", "training/counts.parquet"])
def test_a_damaged_bundle_is_refused_by_file(updated: Updated, tmp_path: Path, name: str):
    path = shutil.copytree(updated.before.path, tmp_path / "video_feed" / "1")
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} has changed since the export"):
        update(replace(updated.project, out=tmp_path / "out"), path)
    assert not (tmp_path / "out" / "samples").exists()


def test_a_bundle_of_an_older_version_is_refused_with_what_to_do(bundle_directory: Path, tmp_path: Path):
    spec = open_bundle(bundle_directory).spec
    with pytest.raises(ArtifactError, match=r"counts\.parquet holds no counts of ids.*Prepare the data again"):
        update(Project.open(spec, data=tmp_path, out=tmp_path / "out"), bundle_directory)
    with pytest.raises(ArtifactError, match="holds no bundle"):
        update(Project.open(spec, data=tmp_path, out=tmp_path / "out"), tmp_path / "nothing")


def test_a_version_that_was_renamed_says_what_its_name_must_be(updated: Updated, tmp_path: Path):
    path = shutil.copytree(updated.before.path, tmp_path / "production")
    with pytest.raises(ArtifactError, match=r"production must be called 1, the version that it holds"):
        update(replace(updated.project, out=tmp_path / "out"), path)
    assert not (tmp_path / "out" / "samples").exists()


@pytest.mark.parametrize(
    ("options", "message"), [({"decay": 1.5}, "decay must be in 0 … 1"), ({"epochs": 0}, "at least 1")]
)
def test_numbers_out_of_range_are_refused(updated: Updated, tmp_path: Path, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        update(replace(updated.project, out=tmp_path / "out"), updated.before.path, **options)


@pytest.mark.slow
def test_an_update_that_is_killed_continues_and_ends_as_if_it_had_not_been(updated: Updated, tmp_path: Path):
    versions, out = tmp_path / "video_feed", tmp_path / "out"
    shutil.copytree(updated.before.path, versions / "1")
    spec = tmp_path / "feed.json"
    spec.write_text(updated.project.spec.model_dump_json())
    command = [sys.executable, "-m", "onehull", "update", str(spec), "--bundle", str(versions), "--epochs", "1",
               "--data", str(updated.project.data), "--out", str(out)]  # fmt: skip
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "records").is_dir():
        assert killed.poll() is None, "the update ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert bundle_versions(versions) == [1]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kept") == 2, done.stdout
    for name, task in open_bundle(versions).metrics["tasks"].items():
        assert task["metrics"] == updated.result.bundle.metrics["tasks"][name]["metrics"]


def test_a_transform_that_was_grown_survives_its_file(updated: Updated):
    assert Transform.load(updated.project.transform) == updated.result.bundle.transform
