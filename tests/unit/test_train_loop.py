"""The training loop: progress, selection, early stopping, the guard, and what is written."""

from __future__ import annotations

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from onehull.errors import DataError
from onehull.metrics import auc
from onehull.model import MultiTaskModel, build_model, compile_model
from onehull.spec.balance import PcgradBalance, StaticBalance
from onehull.spec.inputs import ModelInput
from onehull.spec.model import SharedBottom
from onehull.spec.tasks import BinaryTask, MulticlassTask, RegressionTask, Task
from onehull.spec.training import Training
from onehull.train import fit_model, load_history, predict
from onehull.train.callbacks import epoch_text, progress_bars
from onehull.train.validation import epoch_score

INPUTS = (ModelInput(name="user", kind="id", rows=20, dim=4), ModelInput(name="age", kind="dense", length=3))
TASKS: dict[str, Task] = {
    "click": BinaryTask(kind="binary"),
    "watch": RegressionTask(kind="regression"),
    "category": MulticlassTask(kind="multiclass", classes=3),
}


def rows(count=200, seed=0):
    """Labels that can be learned, a third of them missing."""
    rng = np.random.default_rng(seed)
    x = {"user": rng.integers(0, 20, count).astype("int32"), "age": rng.normal(size=(count, 3)).astype("float32")}
    signal = x["age"][:, 0] + 0.1 * x["user"]
    y = {
        "click": (signal + rng.normal(size=count) > 1).astype("float32"),
        "watch": (signal + rng.normal(size=count)).astype("float32"),
        "category": np.clip(np.round(signal), 0, 2).astype("float32"),
    }
    for values in y.values():
        values[rng.uniform(size=count) < 0.3] = np.nan
    return x, y


def batches(part, size=32):
    return tf.data.Dataset.from_tensor_slices(part).batch(size)


def shuffled(part, size=32):
    """Batches of an epoch, in an order that depends on its number only."""
    count = len(part[0]["user"])

    def epoch(at):
        order = np.random.default_rng([7, at.epoch]).permutation(count)
        ordered = batches(tuple({name: values[order] for name, values in group.items()} for group in part), size)
        return ordered.skip(at.batch)

    return epoch


def model_of(training, balance=None, dropout=0.2):
    keras.utils.set_random_seed(training.seed)
    model = build_model(SharedBottom(bottom=(8,), tower=(4,), dropout=dropout), TASKS, INPUTS, seed=training.seed)
    compile_model(model, TASKS, balance or StaticBalance(weights={"watch": 0.5}), training, steps_per_execution=4)
    return model


def fit(out_dir, training, train=None, validation=None, model=None, **options):
    model = model or model_of(training)
    train, validation = train or rows(), validation or rows(120, seed=1)
    return model, fit_model(model, shuffled(train), batches(validation), training, out_dir, binary=["click"], **options)


def test_the_best_epoch_on_validation_is_what_is_left(tmp_path):
    validation = rows(120, seed=1)
    _, result = fit(tmp_path, Training(epochs=6, patience=6, learning_rate=0.05), validation=validation)
    state = result.progress
    areas = state.history["val_click_auc"]
    assert state.epoch == 6
    assert state.best_epoch == int(np.argmax(areas)) + 1
    model = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert isinstance(model, MultiTaskModel)
    scores = predict(model, batches(validation))
    assert {task: values.shape for task, values in scores.items()} == {
        "click": (120,), "watch": (120,), "category": (120, 3),
    }  # fmt: skip
    assert auc(validation[1]["click"], scores["click"]) == pytest.approx(max(areas), abs=1e-6)
    there = ~np.isnan(validation[1]["watch"])
    error = np.mean((validation[1]["watch"] - scores["watch"])[there] ** 2)
    assert error == pytest.approx(state.history["val_watch_loss"][state.best_epoch - 1], rel=1e-4)


def test_the_validation_loss_is_the_weighted_sum_of_the_tasks(tmp_path):
    _, result = fit(tmp_path, Training(epochs=1))
    last = {name: values[-1] for name, values in result.progress.history.items()}
    total = last["val_click_loss"] + 0.5 * last["val_watch_loss"] + last["val_category_loss"]
    assert last["val_loss"] == pytest.approx(total, rel=1e-6)


def test_history_and_curves_are_written(tmp_path):
    training = Training(epochs=2, patience=5)
    model = model_of(training, PcgradBalance(kind="pcgrad"))
    _, result = fit(tmp_path, training, model=model)
    written = json.loads((tmp_path / "history.json").read_text())
    assert written["history"] == result.progress.history
    history = load_history(tmp_path)
    assert len(history) == 2
    assert {"loss", "click_loss", "click_weight", "val_click_auc", "val_watch_loss"} <= set(history[0])
    events = list((tmp_path / "tensorboard").iterdir())
    content = events[0].read_bytes()
    assert b"weight/click" in content
    assert b"validation_auc/click" in content


def test_a_run_that_compares_gradients_keeps_its_conflict_matrices(tmp_path):
    training = Training(epochs=2, patience=5)
    fit(tmp_path, training, model=model_of(training, PcgradBalance(kind="pcgrad")))
    written = json.loads((tmp_path / "history.json").read_text())
    assert written["conflict_tasks"] == list(TASKS)
    matrices = np.array(written["conflicts"], float)
    assert matrices.shape == (2, 3, 3)
    np.testing.assert_allclose(matrices, matrices.transpose(0, 2, 1))
    np.testing.assert_allclose(np.diagonal(matrices, axis1=1, axis2=2), 1, rtol=1e-5)
    assert (np.abs(matrices) <= 1 + 1e-5).all()
    content = next((tmp_path / "tensorboard").iterdir()).read_bytes()
    assert b"cosine/click, watch" in content
    assert b"images" in content


def test_training_stops_when_validation_does_not_get_better(tmp_path):
    # Nothing to learn: labels of validation have nothing to do with the inputs.
    noise = rows(120, seed=1)
    noise[1]["click"] = np.random.default_rng(5).integers(0, 2, 120).astype("float32")
    _, result = fit(tmp_path, Training(epochs=40, patience=2, learning_rate=0.05), validation=noise)
    state = result.progress
    assert state.epoch < 40
    assert state.since_best == 2
    assert state.epoch == state.best_epoch + 2


def test_an_area_that_is_not_defined_is_none_and_the_loss_selects(tmp_path):
    one_class = rows(60, seed=1)
    one_class[1]["click"][:] = 1
    _, result = fit(tmp_path, Training(epochs=1), validation=one_class)
    assert result.progress.history["val_click_auc"] == [None]
    assert result.progress.best_score == -result.progress.history["val_loss"][0]
    assert "val_click_auc" not in load_history(tmp_path)[0]


def test_what_an_epoch_is_worth():
    measures = {"val_loss": 2.0, "val_a_auc": 0.6, "val_b_auc": 0.8, "val_c_auc": None}
    assert epoch_score(measures, "auc") == pytest.approx(0.7)
    assert epoch_score(measures, "loss") == -2
    assert epoch_score({"val_loss": 2.0}, "auc") == -2
    assert epoch_score({}, "auc") is None


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_a_loss_that_is_not_finite_is_reported_with_its_task(tmp_path, steps_per_execution):
    poisoned = rows()
    poisoned[1]["watch"][40] = np.inf
    training = Training(epochs=2)
    model = model_of(training)
    model.steps_per_execution = steps_per_execution
    with pytest.raises(DataError, match=r"the loss of task 'watch' must be finite.* in epoch 1"):
        fit(tmp_path, training, train=poisoned, model=model)
    assert tuple(model.not_finite) == ("watch",)
    assert not (tmp_path / "model.keras").exists()


def test_batches_that_are_not_finite_are_skipped_by_choice_and_counted(tmp_path, caplog):
    poisoned = rows()
    poisoned[1]["watch"][40] = np.inf
    training = Training(epochs=2, non_finite="skip")
    model, result = fit(tmp_path, training, train=poisoned, model=model_of(training))
    assert result.progress.epoch == 2
    assert result.progress.skipped == {"watch": 2}  # one batch of each epoch
    assert "batches left out so far because a loss was not finite: watch: 1" in caplog.text
    assert all(np.isfinite(weights).all() for weights in model.get_weights())
    assert np.isfinite(result.progress.history["watch_loss"]).all()


def test_progress_is_told_line_by_line_where_there_is_no_terminal(tmp_path):
    written = io.StringIO()
    bars = progress_bars(Console(file=written, width=250))
    with bars:
        fit(tmp_path, Training(epochs=2), progress=bars)
    lines = [line for line in written.getvalue().splitlines() if line.strip()]
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    for word in ("loss", "click", "watch", "category", "validation loss", "AUC click"):
        assert word in lines[0]


def test_an_undefined_area_is_said_to_be_undefined():
    assert "AUC click undefined" in epoch_text(1, 2, {"loss": 1.0, "val_loss": 2.0, "val_click_auc": None})


def test_the_same_seed_gives_the_same_bits(tmp_path):
    tf.config.experimental.enable_op_determinism()
    training = Training(epochs=2, patience=5)
    weights = []
    for name in ("one", "two"):
        model = model_of(training, PcgradBalance(kind="pcgrad"))
        fit(tmp_path / name, training, model=model)
        weights.append(model.get_weights())
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)


def test_what_was_trained_in_bfloat16_is_left_in_float32(tmp_path):
    training = Training(epochs=1, learning_rate=0.05)
    model = build_model(SharedBottom(bottom=(8,), tower=(4,)), TASKS, INPUTS, seed=0, precision="bfloat16")
    compile_model(model, TASKS, StaticBalance(), training)
    fit(tmp_path, training, model=model)
    left = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert {layer.compute_dtype for layer in left._flatten_layers()} == {"float32"}
    assert "bfloat16" in {layer.compute_dtype for layer in model._flatten_layers()}  # training goes on in it
    data = batches(rows(64))
    for task, expected in predict(model, data).items():
        np.testing.assert_allclose(predict(left, data)[task], expected, rtol=0.05, atol=0.02)
