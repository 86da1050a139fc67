"""Checkpoints: a killed run continues as if it had never stopped; damage and full disks are survived."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import polars as pl
import pytest

from onehull.errors import ArtifactError, SpecError
from onehull.features import analyze
from onehull.model import MultiTaskModel
from onehull.records import read_manifest, write_records
from onehull.spec import Spec, load_spec
from onehull.train import train
from onehull.train.checkpoint import Progress, checkpoint_files, load_checkpoint, save_checkpoint
from onehull.train.history import save_best
from onehull.train.train import _compiled_model, check_parts, starting_points

DOCUMENT = {
    "name": "tiny",
    "data": {"samples": "samples.parquet", "user": "user", "split": {"by": "column", "column": "part",
                                                                      "validation": [1], "test": [2]}},
    "features": {"user": {"kind": "categorical", "min_count": 1}, "age": {"kind": "numeric"}},
    "tasks": {
        "click": {"kind": "binary", "label": "clicked"},
        "watch": {"kind": "regression", "label": "seconds", "transform": "log1p"},
    },
    "model": {"embedding_dim": 4, "bottom": [8], "tower": [4], "dropout": 0.2},
    "balance": {"kind": "pcgrad", "weights": {"watch": 0.5}},
    "training": {"epochs": 4, "batch_size": 32, "patience": 9, "learning_rate": 0.01},
}  # fmt: skip


def tiny_spec(**training) -> Spec:
    return load_spec({**DOCUMENT, "training": {**DOCUMENT["training"], **training}})  # type: ignore[dict-item]


def tiny_records(directory: Path, rows: int = 300) -> Path:
    rng = np.random.default_rng(0)
    user, age = rng.integers(0, 9, rows), rng.normal(size=rows)
    there = rng.uniform(size=(2, rows)) > 0.3
    clicked = (age + rng.normal(size=rows) > 0).astype(float)
    samples = pl.DataFrame(
        {
            "sample": [str(row) for row in range(rows)],
            "split": ["train"] * (rows - 100) + ["validation"] * 50 + ["test"] * 50,
            "x.user": [f"u{value}" for value in user],
            "x.age": age,
            "y.click": [value if ok else None for value, ok in zip(clicked, there[0], strict=True)],
            "y.watch": [value if ok else None for value, ok in zip(np.exp(age), there[1], strict=True)],
        }
    )
    directory.mkdir(parents=True, exist_ok=True)
    samples.write_parquet(directory / "samples.parquet")
    transform = analyze(tiny_spec().features, samples.lazy())
    write_records(directory / "samples.parquet", transform, ["click", "watch"], directory / "shards")
    return directory / "shards"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tiny_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def uninterrupted(records, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    return out, train(tiny_spec(), records, out, progress=False)


def weights_of(path: Path) -> list[np.ndarray]:
    return keras.models.load_model(path / "model.keras", compile=False).get_weights()


def assert_same_run(first: Path, second: Path) -> None:
    for one, two in zip(weights_of(first), weights_of(second), strict=True):
        np.testing.assert_array_equal(one, two)
    histories = [json.loads((path / "history.json").read_text())["history"] for path in (first, second)]
    assert histories[0] == histories[1]


@pytest.mark.slow
def test_a_run_that_was_killed_continues_to_the_same_bits(records, uninterrupted, tmp_path):
    script = (
        "import sys; from pathlib import Path; from onehull.spec import load_spec; from onehull.train import train\n"
        "train(load_spec(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), progress=False)"
    )
    (tmp_path / "spec.yaml").write_text(json.dumps(tiny_spec(epochs=400).model_dump(mode="json", exclude_none=True)))
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "spec.yaml"), str(records), str(out)],
        stderr=subprocess.PIPE,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        deadline = time.monotonic() + 120
        while not checkpoint_files(out / "checkpoints"):
            assert process.poll() is None, (process.stderr or sys.stdin).read()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = load_epoch(out)
    assert done < 4, "the run was faster than the signal"
    result = train(tiny_spec(), records, out, progress=False)
    assert result.continued_from == done
    assert_same_run(out, uninterrupted[0])


def load_epoch(out: Path) -> int:
    return int(checkpoint_files(out / "checkpoints")[-1].stem.removeprefix("epoch-"))


def test_more_epochs_continue_where_training_stopped(records, uninterrupted, tmp_path):
    first = train(tiny_spec(epochs=2), records, tmp_path, progress=False)
    assert first.continued_from == 0
    again = train(tiny_spec(), records, tmp_path, progress=False)
    assert again.continued_from == 2
    assert_same_run(tmp_path, uninterrupted[0])


def test_a_damaged_checkpoint_falls_back_to_the_one_before(records, uninterrupted, tmp_path, caplog):
    train(tiny_spec(epochs=3), records, tmp_path, progress=False)
    last = checkpoint_files(tmp_path / "checkpoints")[-1]
    content = last.read_bytes()
    last.write_bytes(content[: len(content) // 2])
    result = train(tiny_spec(), records, tmp_path, progress=False)
    assert result.continued_from == 2
    assert result.skipped == (last,)
    assert "is passed over" in caplog.text
    assert_same_run(tmp_path, uninterrupted[0])


def test_other_settings_begin_anew(records, tmp_path):
    train(tiny_spec(epochs=1), records, tmp_path, progress=False)
    result = train(tiny_spec(epochs=1, learning_rate=0.5), records, tmp_path, progress=False)
    assert result.continued_from == 0
    assert len(result.skipped) == 1
    assert train(tiny_spec(epochs=1), records, tmp_path, progress=False, resume=False).continued_from == 0


def test_one_task_alone_is_the_baseline_of_its_kind(records, tmp_path):
    result = train(tiny_spec(epochs=1), records, tmp_path, tasks=["watch"], progress=False)
    assert set(keras.models.load_model(result.model_path, compile=False).output) == {"watch"}
    assert {"watch_loss", "val_watch_loss"} <= set(result.history)
    assert "click_loss" not in result.history
    assert result.costs.shared == 0
    # Alone it weighs 1, not the 0.5 that it has among others.
    assert result.history["val_loss"] == result.history["val_watch_loss"]


def test_every_epoch_sees_every_row_in_an_order_of_its_own(uninterrupted):
    assert uninterrupted[1].history["loss"][0] > uninterrupted[1].history["loss"][-1]
    assert uninterrupted[1].best_epoch in range(1, 5)
    assert uninterrupted[1].seconds > 0


def test_outputs_start_at_the_base_rates_of_training(records):
    manifest = read_manifest(records)
    priors = starting_points(tiny_spec().tasks, manifest)
    click, watch = manifest.labels["click"], manifest.labels["watch"]
    assert priors == {"click": click.positives / click.labels, "watch": watch.mean_log1p}


def test_validation_that_is_the_test_part_is_refused(records):
    manifest = read_manifest(records)
    same = manifest.model_copy(update={"splits": {**manifest.splits, "test": manifest.splits["validation"]}})
    with pytest.raises(ArtifactError, match="validation part and the test part must differ"):
        check_parts(same, ["click"], records)
    with pytest.raises(ArtifactError, match=r"holds no labels of \['like'\]"):
        check_parts(manifest, ["like"], records)
    with pytest.raises(SpecError, match="must name tasks of the spec"):
        train(tiny_spec(), records, records, tasks=["like"], progress=False)


@contextmanager
def file_size_limit(size: int):
    """Writes beyond a size fail as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_last_good_files(records, tmp_path):
    train(tiny_spec(epochs=1), records, tmp_path, progress=False)
    model = _compiled_model(tiny_spec(), tiny_spec().tasks, read_manifest(records))
    model.optimizer.build(model.trainable_variables)
    progress, _ = load_checkpoint(tmp_path / "checkpoints", model, _fingerprint_of(tmp_path))
    assert progress.epoch == 1
    before = weights_of(tmp_path)
    with file_size_limit(1000):
        with pytest.raises(ArtifactError, match=r"epoch-00002.npz cannot be written.*last good checkpoint is intact"):
            save_checkpoint(tmp_path / "checkpoints", model, replace(progress, epoch=2))
        with pytest.raises(ArtifactError, match=r"model.keras cannot be written.*last good model is intact"):
            save_best(tmp_path, model)
    assert [path.name for path in checkpoint_files(tmp_path / "checkpoints")] == ["epoch-00001.npz"]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["epoch-00001.npz"]
    for one, two in zip(before, weights_of(tmp_path), strict=True):
        np.testing.assert_array_equal(one, two)


def _fingerprint_of(out: Path) -> str:
    return json.loads((out / "history.json").read_text())["fingerprint"]


def test_a_checkpoint_of_another_model_is_passed_over(tmp_path):
    def small(units):
        inputs = keras.Input((2,), name="x")
        model = MultiTaskModel(inputs={"x": inputs}, outputs={"a": keras.layers.Dense(units, name="a")(inputs)})
        model.compile("adam", loss="mse")
        model.optimizer.build(model.trainable_variables)
        return model

    save_checkpoint(tmp_path, small(1), Progress("key", epoch=3))
    progress, skipped = load_checkpoint(tmp_path, small(2), "key")
    assert progress.epoch == 0
    assert len(skipped) == 1
    assert load_checkpoint(tmp_path, small(1), "key")[0].epoch == 3
    assert load_checkpoint(tmp_path / "nowhere", small(1), "key") == (Progress("key"), ())


def test_only_the_last_two_checkpoints_are_kept(uninterrupted):
    names = [path.name for path in checkpoint_files(uninterrupted[0] / "checkpoints")]
    assert names == ["epoch-00003.npz", "epoch-00004.npz"]
    assert uninterrupted[1].model_path.is_file()
