"""What a training survives: signals in the middle of an epoch, losses that are not finite, lost shards, full disks."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from onehull.errors import ArtifactError, DataError
from onehull.model import MultiTaskModel, build_model, compile_model
from onehull.records import read_manifest, read_records
from onehull.spec.balance import PcgradBalance, StaticBalance
from onehull.spec.inputs import ModelInput
from onehull.spec.model import SharedBottom
from onehull.spec.tasks import BinaryTask, RegressionTask, Task
from onehull.spec.training import Training
from onehull.train import Position, fit_model, train
from onehull.train.checkpoint import checkpoint_files
from onehull.train.interrupt import Interruption
from tests.unit.test_train_checkpoint import tiny_records, tiny_spec

INPUTS = (ModelInput(name="user", kind="id", rows=20, dim=4), ModelInput(name="age", kind="dense", length=3))
TASKS: dict[str, Task] = {"click": BinaryTask(kind="binary"), "watch": RegressionTask(kind="regression")}
BATCHES, SIZE = 50, 4
"""Of an epoch: more than a first call takes in."""


def rows():
    rng = np.random.default_rng(0)
    count = BATCHES * SIZE
    x = {"user": rng.integers(0, 20, count).astype("int32"), "age": rng.normal(size=(count, 3)).astype("float32")}
    y = {"click": (x["age"][:, 0] > 0).astype("float32"), "watch": x["age"][:, 1].copy()}
    return x, y


def epochs_of(part, hook=lambda _: None, without=()):
    """Batches of an epoch in an order of its own; `without` names those that never come, as (epoch, batch)."""

    def epoch(at):
        hook(at)
        order = np.random.default_rng([7, at.epoch]).permutation(BATCHES * SIZE).reshape(BATCHES, SIZE)
        kept = order[[batch for batch in range(BATCHES) if (at.epoch, batch) not in without]].reshape(-1)
        ordered = [{name: values[kept] for name, values in group.items()} for group in part]
        return tf.data.Dataset.from_tensor_slices(tuple(ordered)).batch(SIZE).skip(at.batch)

    return epoch


def fit(out, training, data, balance=None, validation=None):
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(training.seed)
    model = build_model(SharedBottom(bottom=(8,), tower=(4,), dropout=0.2), TASKS, INPUTS, seed=training.seed)
    compile_model(model, TASKS, balance or StaticBalance(), training)
    validation = validation or tf.data.Dataset.from_tensor_slices(rows()).batch(64)
    return model, fit_model(model, data, validation, training, out, binary=["click"])


def short(**options) -> Training:
    return Training(**{"epochs": 2, "patience": 9, "learning_rate": 0.01, "tensorboard": False, **options})


def assert_same(first, second) -> None:
    for one, two in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(first.optimizer.variables, second.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, two)


def sends(number, epoch=0, times=1):
    """A hook that sends this process a signal when an epoch begins."""

    def hook(at):
        if (at.epoch, at.batch) == (epoch, 0):
            for _ in range(times):
                signal.raise_signal(number)

    return hook


@pytest.mark.parametrize("balance", [StaticBalance(), PcgradBalance(kind="pcgrad")])
def test_ctrl_c_saves_in_the_middle_of_an_epoch_and_the_bits_stay_the_same(tmp_path, caplog, balance):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"Stopped in epoch 1, 16 batches done; saved in .*: it continues"):
        fit(tmp_path / "stopped", short(), epochs_of(rows(), sends(signal.SIGINT)), balance)
    assert signal.getsignal(signal.SIGINT) is handler
    assert "finishes the running step, then saves" in caplog.text
    assert "Stopped in epoch 1, 16 batches done" in caplog.text
    places: list[Position] = []
    again, result = fit(tmp_path / "stopped", short(), epochs_of(rows(), places.append), balance)
    assert [(at.epoch, at.batch) for at in places] == [(0, 16), (1, 0)]
    whole, expected = fit(tmp_path / "whole", short(), epochs_of(rows()), balance)
    assert_same(again, whole)
    assert result.progress.history == expected.progress.history
    assert result.progress.conflicts == expected.progress.conflicts


def test_sigterm_saves_and_ends_with_its_exit_status(tmp_path):
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path, short(), epochs_of(rows(), sends(signal.SIGTERM)))
    assert ended.value.code == 143
    assert [path.name for path in checkpoint_files(tmp_path / "checkpoints")] == ["epoch-00000-00000016.npz"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, short(), epochs_of(rows(), sends(signal.SIGINT, times=2)))
    assert not checkpoint_files(tmp_path / "checkpoints")


def test_ctrl_c_while_it_is_measured_keeps_the_weights_that_training_goes_on_with(tmp_path):
    # While it is measured, the averages stand in the place of the weights.
    training = short(average=0.9)
    with pytest.raises(KeyboardInterrupt, match="epoch 1, 50 batches done"):
        fit(tmp_path / "stopped", training, epochs_of(rows()), validation=stopped_in_pass(2))
    assert not (tmp_path / "stopped" / "model.keras").exists()
    again, result = fit(tmp_path / "stopped", training, epochs_of(rows()))
    whole, expected = fit(tmp_path / "whole", training, epochs_of(rows()))
    assert_same(again, whole)
    assert result.progress.history == expected.progress.history


def stopped_in_pass(number):
    """Rows for validation that send SIGINT in the middle of a pass over them."""
    passes = []

    def generate():
        passes.append(1)
        x, y = rows()
        for start in (0, 100):
            if start and len(passes) == number:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)  # the main thread takes the signal
            yield ({n: v[start : start + 100] for n, v in x.items()}, {n: v[start : start + 100] for n, v in y.items()})

    part = tf.data.Dataset.from_tensor_slices(rows()).batch(64)
    return tf.data.Dataset.from_generator(generate, output_signature=part.element_spec)


def test_nothing_changes_outside_of_the_main_thread_and_for_ignored_signals():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def look():
        with Interruption() as interruption:
            seen.append((signal.getsignal(signal.SIGTERM), interruption.asked))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [(before, None)]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGTERM)
            assert interruption.asked is None
    finally:
        signal.signal(signal.SIGTERM, before)


def poisoned(*places):
    """Rows of which those of some batches of the first epoch, (task, batch), have labels that are not finite."""
    x, y = rows()
    order = np.random.default_rng([7, 0]).permutation(BATCHES * SIZE).reshape(BATCHES, SIZE)
    for task, batch in places:
        y[task][order[batch, 1]] = np.inf
    return x, y


def test_the_first_batch_that_is_not_finite_is_named_after_a_stop_too(tmp_path):
    broken = poisoned(("watch", 21), ("click", 33))
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, short(), epochs_of(broken, sends(signal.SIGINT)))
    with pytest.raises(DataError, match=r"the loss of task 'watch' must be finite.* in epoch 1, batch 22 "):
        fit(tmp_path, short(), epochs_of(broken))


def test_training_steps_back_and_leaves_the_batch_out(tmp_path, caplog):
    training = short(non_finite="step_back")
    broken = poisoned(("watch", 21), ("click", 33))
    model, result = fit(tmp_path / "back", training, epochs_of(broken))
    left_out = result.progress.left_out
    assert left_out[:2] == [[0, 21], [0, 33]]
    assert [epoch for epoch, _ in left_out] == [0, 0, 1, 1]
    assert "epoch 1, batch 22" in caplog.text
    assert "Goes on from epoch 1, 0 batches done, without this batch." in caplog.text
    never = {(epoch, batch) for epoch, batch in left_out}
    other, expected = fit(tmp_path / "never", short(), epochs_of(broken, without=never))
    assert_same(model, other)
    assert result.progress.history == expected.progress.history


def test_a_return_survives_a_stop(tmp_path):
    training = short(non_finite="step_back")
    broken = poisoned(("watch", 21))
    whole, _ = fit(tmp_path / "whole", training, epochs_of(broken))
    returns = []

    def stop_after_the_return(at):
        returns.append(at)
        if len(returns) == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="epoch 1, 21 batches done"):
        fit(tmp_path / "stopped", training, epochs_of(broken, stop_after_the_return))
    again, result = fit(tmp_path / "stopped", training, epochs_of(broken))
    assert result.progress.left_out[0] == [0, 21]
    assert_same(again, whole)


def test_training_does_not_step_back_for_ever(tmp_path):
    broken = poisoned(*(("watch", batch) for batch in range(5, 12)))
    with pytest.raises(DataError, match=r"batch 9 .*stepped back 3 times and left out batches 6, 7, 8 in vain"):
        fit(tmp_path, short(non_finite="step_back"), epochs_of(broken))


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    inputs = keras.Input((2,), name="x")
    model = MultiTaskModel(inputs={"x": inputs}, outputs={"a": keras.layers.Dense(1, name="a")(inputs)})
    # Its value is 0, and its gradient is infinite.
    model.compile("sgd", loss={"a": lambda y, p: tf.sqrt(p - tf.stop_gradient(p)) + 0 * y})
    part = tf.data.Dataset.from_tensors(({"x": np.ones((4, 2), "float32")}, {"a": np.ones((4, 1), "float32")}))
    with pytest.raises(DataError, match=r"the weights must be finite.* in epoch 1, in or before batch 1"):
        fit_model(model, lambda _: part, part, short(), tmp_path)
    assert not checkpoint_files(tmp_path / "checkpoints")


def test_a_shard_that_vanishes_in_the_middle_of_an_epoch_is_named(tmp_path, monkeypatch):
    records, spec = tiny_records(tmp_path), tiny_spec(epochs=2)
    shard = records / read_manifest(records).splits["train"][0].file
    content = shard.read_bytes()

    def from_disk(*args, **options):
        batches = read_records(*args, memory_limit_bytes=0, **options)
        if options.get("epoch") == 1:
            shard.unlink()
        return batches

    monkeypatch.setattr(sys.modules[train.__module__], "read_records", from_disk)
    with pytest.raises(ArtifactError, match=f"{shard} is missing.*continues from the last checkpoint"):
        train(spec, records, tmp_path / "out", progress=False)
    monkeypatch.undo()
    shard.write_bytes(content)
    assert train(spec, records, tmp_path / "out", progress=False).continued_from == 1


@contextmanager
def small_disk(place: Path, size: str):
    """A file system of a size; the test skips where it cannot be made."""
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted: {made.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_disk_that_fills_stops_training_and_it_continues_when_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk", "4m"):
        out, ballast = tmp_path / "disk" / "out", tmp_path / "disk" / "ballast"

        def fill(at):
            if at.epoch == 1:
                with pytest.raises(OSError, match="No space left"), ballast.open("wb", buffering=0) as file:
                    file.writelines(itertools.repeat(bytes(4096)))

        with pytest.raises(ArtifactError, match=r"cannot be written.*No space left.*run the same command again"):
            fit(out, short(), epochs_of(rows(), fill))
        assert [path.name for path in checkpoint_files(out / "checkpoints")] == ["epoch-00001-00000000.npz"]
        ballast.unlink()
        model, result = fit(out, short(), epochs_of(rows()))
        assert result.continued_from == 1
    whole, _ = fit(tmp_path / "whole", short(), epochs_of(rows()))
    assert_same(model, whole)


@pytest.mark.slow
def test_signals_to_a_process_save_and_it_continues(tmp_path):
    records = tiny_records(tmp_path)
    script = (
        "import sys; from pathlib import Path; from onehull.spec import load_spec; from onehull.train import train\n"
        "train(load_spec(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), progress=False)"
    )
    spec, out = tiny_spec(epochs=10_000, patience=100_000), tmp_path / "out"
    (tmp_path / "spec.yaml").write_text(json.dumps(spec.model_dump(mode="json", exclude_none=True)))
    command = [sys.executable, "-c", script, str(tmp_path / "spec.yaml"), str(records), str(out)]
    for number, status in ((signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)):
        before = checkpoint_files(out / "checkpoints")
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        )
        deadline = time.monotonic() + 300
        while checkpoint_files(out / "checkpoints")[-1:] == before[-1:]:
            assert process.poll() is None, process.communicate()[1][-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        _, told = process.communicate(timeout=120)
        assert process.returncode in (status, 130), told[-2000:]
        assert "Run the same command again: it continues there." in told
        place = checkpoint_files(out / "checkpoints")[-1].stem.split("-")
        assert f"Stopped in epoch {int(place[1]) + 1}, {int(place[2])} batches done" in told
