"""`run`: keeps what has not changed, continues after a kill, and one run at a time works in a directory."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from filelock import FileLock

from onehull.errors import ArtifactError, DataError, SpecError
from onehull.pipeline import Project, assemble, run, train
from onehull.pipeline.verbs import read_report
from onehull.spec import load_spec

ROOT = Path(__file__).parents[2]


def test_a_second_run_keeps_everything(small_feed):
    again = run(small_feed)
    assert [step.kept for step in again.steps] == [True] * 4
    assert again.bundle.manifest.version == 1


def test_only_what_depends_on_a_change_is_done_again(small_feed, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(small_feed.out, out)
    spec = small_feed.spec
    changed = spec.model_copy(
        update={"training": spec.training.model_copy(update={"learning_rate": 0.002, "epochs": 1})}
    )
    result = run(Project.open(changed, data=small_feed.data, out=out))
    assert [(step.name, step.kept) for step in result.steps] == [
        ("samples", True), ("records", True), ("training", False), ("evaluation", False),
    ]  # fmt: skip
    assert result.bundle.manifest.version == 2


def test_a_changed_log_is_noticed(small_feed, tmp_path: Path):
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(small_feed.data, data)
    project = Project.open(small_feed.spec, data=data, out=out)
    assert not assemble(project).kept
    assert assemble(project).kept
    log = sorted(data.glob("feedback-*"))[0]
    log.write_text(log.read_text() + "\n")
    assert not assemble(project).kept


def test_a_step_for_another_spec_is_refused_with_the_command_to_run(small_feed):
    spec = small_feed.spec
    features = {name: feature for name, feature in spec.features.items() if name != "tags"}
    other = Project.open(spec.model_copy(update={"features": features}), data=small_feed.data, out=small_feed.out)
    with pytest.raises(ArtifactError, match=r"made from another spec or other data.*onehull prepare"):
        train(other)


def test_two_runs_in_one_directory_do_not_meet(small_feed):
    with FileLock(small_feed.out / ".lock"), pytest.raises(ArtifactError, match="in use by another run"):
        run(small_feed)


@pytest.mark.slow
def test_a_run_that_is_killed_continues_and_ends_as_if_it_had_not_been(small_feed, tmp_path: Path):
    spec, out = tmp_path / "spec.json", tmp_path / "out"
    document = small_feed.spec.model_dump(mode="json")
    document["training"]["epochs"] = 4
    spec.write_text(json.dumps(document))
    command = [sys.executable, "-m", "onehull", "run", str(spec), "--data", str(small_feed.data), "--out", str(out)]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = out / ".training.partial" / "checkpoints"
    deadline = time.monotonic() + 120
    while not (partial.is_dir() and any(partial.iterdir())):
        assert killed.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (out / "training").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kept") == 2, done.stdout
    straight = run(spec, data=small_feed.data, out=tmp_path / "straight")
    continued = read_report(Project.open(spec, data=small_feed.data, out=out))
    for task, report in straight.report.tasks.items():
        assert continued.tasks[task].metrics == report.metrics


def test_a_column_that_the_data_lack_is_a_fault_before_anything_is_done(small_feed, tmp_path: Path):
    document = small_feed.spec.model_dump(mode="json")
    document["features"]["mood"] = {"kind": "categorical"}
    with pytest.raises(SpecError, match=r"features\.mood"):
        run(load_spec(document), data=small_feed.data, out=tmp_path)
    assert not (tmp_path / "samples").exists()


def test_an_empty_log_is_an_error_with_its_name(small_feed, tmp_path: Path):
    data = tmp_path / "data"
    shutil.copytree(small_feed.data, data)
    for path in data.glob("impressions-*"):
        path.write_text("")
    with pytest.raises((DataError, SpecError), match="impressions"):
        run(small_feed.spec, data=data, out=tmp_path / "out")


TABLE = {
    "name": "table",
    "data": {"samples": "t.parquet", "user": "user", "split": {"by": "random", "validation": 0.2, "test": 0.2}},
    "features": {"age": {"kind": "numeric"}, "city": {"kind": "categorical", "min_count": 1}},
    "tasks": {"click": {"kind": "binary", "label": "click"}, "buy": {"kind": "binary", "label": "buy"}},
    "model": {"embedding_dim": 2, "bottom": [4], "tower": []},
    "training": {"epochs": 1, "batch_size": 32, "tensorboard": False},
}


def table(**columns) -> pl.DataFrame:
    rows = 200
    frame = {
        "user": ["one"] * rows,
        "age": [float("nan"), float("inf"), -float("inf"), None, *range(rows - 4)],
        "city": ["a", None, "", "b"] * (rows // 4),
        "click": [0, 1] * (rows // 2),
        "buy": [0, None] * (rows // 2),
    }
    return pl.DataFrame({**frame, **columns}, strict=False)


def test_one_user_one_class_nan_and_infinity_go_all_the_way(tmp_path: Path):
    table().write_parquet(tmp_path / "t.parquet")
    result = run(load_spec(TABLE), data=tmp_path, out=tmp_path / "out")
    click, buy = (result.report.tasks[task].metrics for task in ("click", "buy"))
    assert click["auc"] is not None
    assert buy["auc"] is None, "one class: undefined, not 0.5"
    assert 0 < int(buy["missing"] or 0) < 40
    assert click["missing"] == 0
    assert result.bundle.manifest.parity.rows == 40


def test_a_multiclass_task_and_a_sentinel_go_all_the_way(tmp_path: Path):
    # Drawn, because a class that goes with the city would be a leak.
    table(kind=pl.Series([0, 1, 2, -1] * 50).shuffle(seed=0)).write_parquet(tmp_path / "t.parquet")
    tasks = {**TABLE["tasks"], "kind": {"kind": "multiclass", "classes": 3, "label": "kind", "missing": -1}}  # type: ignore[dict-item]
    result = run(load_spec({**TABLE, "tasks": tasks}), data=tmp_path, out=tmp_path / "out")
    assert result.report.tasks["kind"].metrics["labelled"] == pytest.approx(30, abs=12)
    assert result.bundle.manifest.tasks["kind"] == "multiclass"


@pytest.mark.slow
def test_single_task_models_as_a_baseline(small_feed, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(small_feed.out, out)
    result = run(Project.open(small_feed.spec, data=small_feed.data, out=out, baseline="single"))
    assert result.report.comparison is not None
    assert {path.name for path in (out / "baselines").iterdir() if not path.name.startswith(".")} == set(
        small_feed.spec.tasks
    )
