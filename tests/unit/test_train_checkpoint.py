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
import tensorflow as tf

from onehull.errors import ArtifactError, SpecError
from onehull.features import analyze
from onehull.model import MultiTaskModel
from onehull.records import read_manifest, write_records
from onehull.spec import Spec, load_spec
from onehull.train import train
from onehull.train.archive import Archive, write_arrays
from onehull.train.checkpoint import Progress, checkpoint_files, load_checkpoint, save_checkpoint
from onehull.train.history import save_best
from onehull.train.precision import Choice
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
    return int(checkpoint_files(out / "checkpoints")[-1].stem.split("-")[1])


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
    assert f"{last} is damaged, the one before it is used" in caplog.text
    assert not last.exists() or last.read_bytes() != content[: len(content) // 2]
    assert_same_run(tmp_path, uninterrupted[0])


def test_a_checkpoint_of_another_spec_is_refused_with_the_difference(records, tmp_path):
    train(tiny_spec(epochs=1), records, tmp_path, progress=False)
    with pytest.raises(ArtifactError) as refused:
        train(tiny_spec(epochs=1, learning_rate=0.5, optimizer="sgd"), records, tmp_path, progress=False)
    text = str(refused.value)
    assert "training.learning_rate: 0.01 in the checkpoint, 0.5 now" in text
    assert "training.optimizer: 'adam' in the checkpoint, 'sgd' now" in text
    assert f"delete {tmp_path / 'checkpoints'}" in text
    with pytest.raises(ArtifactError, match=r"trained: \['click', 'watch'\] in the checkpoint, \['click'\] now"):
        train(tiny_spec(epochs=1), records, tmp_path, tasks=["click"], progress=False)
    assert train(tiny_spec(epochs=1, learning_rate=0.5), records, tmp_path, progress=False, resume=False).skipped == ()
    free = tiny_spec(epochs=1, learning_rate=0.5, patience=3, tensorboard=False, checkpoint_minutes=1.0)
    assert train(free, records, tmp_path, progress=False).continued_from == 1


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
    model = _compiled_model(tiny_spec(), tiny_spec().tasks, read_manifest(records), Choice("float32", False, ""))
    model.build_optimizers()
    settings = json.loads((tmp_path / "history.json").read_text())["settings"]
    progress, _ = load_checkpoint(tmp_path / "checkpoints", model, settings)
    assert progress is not None
    assert progress.epoch == 1
    before = weights_of(tmp_path)
    with file_size_limit(1000):
        with pytest.raises(ArtifactError, match=r"epoch-00002-.*npz cannot be written.*last good checkpoint is intact"):
            save_checkpoint(tmp_path / "checkpoints", model, replace(progress, epoch=2))
        with pytest.raises(ArtifactError, match=r"model.keras cannot be written.*last good model is intact"):
            save_best(tmp_path, model)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["epoch-00001-00000000.npz"]
    for one, two in zip(before, weights_of(tmp_path), strict=True):
        np.testing.assert_array_equal(one, two)


def small_model(units=1):
    inputs = keras.Input((2,), name="x")
    model = MultiTaskModel(inputs={"x": inputs}, outputs={"a": keras.layers.Dense(units, name="a")(inputs)})
    model.compile("adam", loss="mse")
    model.build_optimizers()
    return model


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    assert load_checkpoint(tmp_path / "nowhere", small_model(), {}) == (None, ())
    save_checkpoint(tmp_path, small_model(), Progress({"key": 1}, epoch=3))
    with pytest.raises(ArtifactError, match=r"model/0: \(2, 1\) in the checkpoint, \(2, 2\) now"):
        load_checkpoint(tmp_path, small_model(2), {"key": 1})
    assert load_checkpoint(tmp_path, small_model(), {"key": 1}) == (Progress({"key": 1}, epoch=3), ())


def test_no_byte_of_a_checkpoint_can_change_unseen(tmp_path):
    model, damaged = small_model(), small_model()
    path = save_checkpoint(tmp_path, model, Progress(epoch=3))
    content, random = path.read_bytes(), np.random.default_rng(0)
    kept = model.get_weights()
    for length in random.integers(0, len(content), 40):
        path.write_bytes(content[:length])
        assert load_checkpoint(tmp_path, damaged, {}) == (None, (path,))
    for place in random.integers(0, len(content), 400):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << random.integers(8)]) + content[place + 1 :])
        found, skipped = load_checkpoint(tmp_path, damaged, {})
        if found is None:  # otherwise it is one of ZIP's bytes that say nothing, such as the time
            assert skipped == (path,)
            continue
        for one, two in zip(kept, damaged.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)


def memory_growth(work) -> int:
    """Bytes by which resident memory grew at most."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def test_large_tables_are_written_and_read_a_piece_at_a_time(tmp_path):
    rows, width = 3_000_000, 16
    table = keras.Variable(np.random.default_rng(0).normal(size=(rows, width)), dtype="float32")
    # What training does: from then on, TensorFlow copies a table that is read as a whole.
    table.value.scatter_sub(tf.IndexedSlices(tf.ones((2, width)), tf.constant([5, rows - 1])))
    path, sums = tmp_path / "table.npz", tf.reduce_sum(table.value, 1).numpy()

    def save():
        with path.open("wb") as file:
            write_arrays(file, [("table", table)], {"text": "words"})

    def restore():
        with Archive(path) as archive:
            assert archive.text("text") == "words"
            assert archive.shape("table") == (rows, width)
            archive.restore("table", table)

    size = rows * width * 4
    assert memory_growth(save) < size / 2
    with np.load(path) as saved:
        np.testing.assert_array_equal(tf.reduce_sum(saved["table"], 1).numpy(), sums)
    table.assign(tf.zeros_like(table.value))
    table.value.scatter_add(tf.IndexedSlices(tf.ones((1, width)), tf.constant([0])))
    assert memory_growth(restore) < size / 2
    np.testing.assert_array_equal(tf.reduce_sum(table.value, 1).numpy(), sums)


def test_only_the_last_two_checkpoints_are_kept(uninterrupted):
    names = [path.name for path in checkpoint_files(uninterrupted[0] / "checkpoints")]
    assert names == ["epoch-00003-00000000.npz", "epoch-00004-00000000.npz"]
    assert uninterrupted[1].model_path.is_file()
