"""Precision and XLA: measured, recorded, kept by a run that continues; the probe measures a twin."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from onehull.errors import ArtifactError
from onehull.model import build_model, compile_model
from onehull.spec.balance import StaticBalance
from onehull.spec.inputs import ModelInput
from onehull.spec.model import SharedBottom
from onehull.spec.tasks import BinaryTask, MulticlassTask, RegressionTask, Task
from onehull.spec.training import Training
from onehull.train.precision import Candidate, Choice, candidates, choose, has_bfloat16, machine, measurements_file
from onehull.train.probe import drawn_batch, step_seconds, twin_inputs

PLAIN, HALF, XLA, BOTH = (Candidate(p, jit) for jit in (False, True) for p in ("float32", "bfloat16"))
SHAPE = {"model": {"kind": "shared_bottom"}, "batch_size": 64}


class Times:
    """Seconds of a step by candidate; remembers what was asked for."""

    def __init__(self, **seconds):
        self.seconds = seconds
        self.asked: list[Candidate] = []

    def __call__(self, candidate):
        self.asked.append(candidate)
        found = self.seconds[candidate.precision + ("_xla" if candidate.jit_compile else "")]
        if found is None:
            raise tf.errors.UnimplementedError(None, None, "no kernel for unique")
        return found


def choice(path, times, allowed=(PLAIN, HALF), steps=100_000, shape=SHAPE, run="run"):
    return choose(allowed, times, shape=shape, steps=steps, out_dir=path / run, measured=path / "measured.json")


@pytest.mark.parametrize(
    ("spec", "machine_has", "expected"),
    [
        ({"deterministic": False}, (True, True), [PLAIN, HALF, XLA, BOTH]),
        ({}, (True, True), [PLAIN, HALF]),
        ({"deterministic": False}, (False, True), [PLAIN, XLA]),
        ({}, (False, False), [PLAIN]),
        ({"precision": "bfloat16"}, (False, False), [HALF]),
        ({"precision": "float32", "jit_compile": False}, (True, True), [PLAIN]),
        ({"jit_compile": True}, (True, False), [XLA, BOTH]),
    ],
)
def test_spec_and_machine_leave_a_choice(spec, machine_has, expected):
    bfloat16, xla = machine_has
    assert candidates(Training(**spec), bfloat16=bfloat16, xla=xla) == expected


def test_the_fastest_is_chosen_and_the_reason_is_told(tmp_path):
    found = choice(tmp_path, Times(float32=0.02, bfloat16=0.012))
    assert found.candidate == HALF
    assert found.text() == (
        "calculates in bfloat16: measured on this machine (float32 20.0 ms a step, bfloat16 12.0 ms a step)"
    )


def test_float32_is_kept_unless_another_is_clearly_faster(tmp_path):
    assert choice(tmp_path, Times(float32=0.02, bfloat16=0.0185)).candidate == PLAIN


def test_what_tensorflow_cannot_calculate_is_not_chosen(tmp_path):
    times = Times(float32=0.02, bfloat16=0.019, float32_xla=None, bfloat16_xla=0.01)
    found = choice(tmp_path, times, (PLAIN, HALF, XLA, BOTH))
    assert found.candidate == BOTH
    assert found.step_ms["float32 with XLA"] is None
    assert "float32 with XLA fails" in found.text()


def test_a_continued_run_calculates_as_it_began(tmp_path):
    first = choice(tmp_path, Times(float32=0.02, bfloat16=0.012))
    (tmp_path / "measured.json").unlink()
    again = Times(float32=0.02, bfloat16=0.05)
    assert choice(tmp_path, again, steps=200_000) == first
    assert not again.asked


def test_a_spec_that_has_changed_overrides_the_record(tmp_path):
    choice(tmp_path, Times(float32=0.02, bfloat16=0.012))
    found = choice(tmp_path, Times(), (PLAIN,))
    assert (found.candidate, found.step_ms) == (PLAIN, {})


def test_a_shape_is_measured_once_on_a_machine(tmp_path):
    choice(tmp_path, Times(float32=0.02, bfloat16=0.012))
    second = Times(float32=0.02, bfloat16=0.05)
    found = choice(tmp_path, second, run="second")
    assert (found.candidate, second.asked) == (HALF, [])
    assert "measured.json" in found.reason
    other = Times(float32=0.02, bfloat16=0.05)
    assert choice(tmp_path, other, shape={**SHAPE, "batch_size": 65}, run="third").candidate == PLAIN
    assert other.asked == [PLAIN, HALF]
    (entry, _) = json.loads((tmp_path / "measured.json").read_text()).values()
    assert entry["shape"] == SHAPE
    assert entry["machine"] == machine()
    assert entry["step_ms"] == {"float32": 20.0, "bfloat16": 12.0}


def test_a_short_training_is_not_measured(tmp_path):
    few = Times(float32=0.02, bfloat16=0.012)
    assert choice(tmp_path, few, steps=999).candidate == PLAIN
    assert not few.asked
    quick = Times(float32=0.002, bfloat16=0.001)
    assert choice(tmp_path, quick, steps=20_000, run="second").candidate == PLAIN
    assert quick.asked == [PLAIN]
    assert not (tmp_path / "measured.json").exists()


@pytest.mark.parametrize("content", ["{", "[1]", '{"run": 3}', '{"precision": "float32"}'])
def test_a_damaged_record_is_measured_anew(tmp_path, content):
    for path in (tmp_path / "measured.json", tmp_path / "run" / "precision.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    assert choice(tmp_path, Times(float32=0.02, bfloat16=0.012)).candidate == HALF
    assert Choice(**json.loads((tmp_path / "run" / "precision.json").read_text())).candidate == HALF


def test_measurements_that_cannot_be_kept_do_not_stop_a_training(tmp_path, caplog):
    (tmp_path / "measured.json").mkdir()
    assert choice(tmp_path, Times(float32=0.02, bfloat16=0.012)).candidate == HALF
    assert "cannot be written" in caplog.text


def test_a_choice_that_cannot_be_kept_stops_the_training(tmp_path):
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot be written"):
        choice(tmp_path, Times(float32=0.02, bfloat16=0.012))


def test_the_machine_is_described(tmp_path, monkeypatch):
    assert machine()["bfloat16"] == has_bfloat16()
    assert json.loads(json.dumps(machine())) == machine()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert measurements_file() == tmp_path / "onehull" / "precision.json"


INPUTS = (
    ModelInput(name="user", kind="id", rows=3_000_000),
    ModelInput(name="tags", kind="ids", rows=500, length=3, dim=4),
    ModelInput(name="age", kind="dense", length=2),
)
TASKS: dict[str, Task] = {
    "click": BinaryTask(kind="binary"),
    "watch": RegressionTask(kind="regression"),
    "category": MulticlassTask(kind="multiclass", classes=3),
}


def test_a_twin_has_the_same_inputs_and_small_tables():
    twin = twin_inputs(INPUTS, 16)
    assert [item.rows for item in twin] == [pytest.approx(1_048_000, rel=0.01), 500, 0]
    assert [item.model_copy(update={"rows": 0}) for item in twin] == [
        item.model_copy(update={"rows": 0}) for item in INPUTS
    ]
    assert twin_inputs(INPUTS[1:], 16) == list(INPUTS[1:])


def test_drawn_batches_are_of_the_inputs_and_tasks():
    x, y = drawn_batch(INPUTS, TASKS, 300)
    for item in INPUTS:
        assert x[item.name].shape == (300, *item.shape)
        assert x[item.name].dtype == item.dtype
    assert x["user"].min() >= 0
    assert x["user"].max() < 3_000_000
    assert set(np.unique(x["tags"])) <= set(range(500))
    assert set(np.unique(y["category"])) == {0, 1, 2}
    assert set(np.unique(y["click"])) == {0, 1}
    assert y["watch"].min() >= 0
    np.testing.assert_equal(drawn_batch(INPUTS, TASKS, 300), (x, y))


@pytest.mark.parametrize("candidate", [PLAIN, HALF])
def test_a_step_of_each_precision_is_timed(candidate):
    twin = [item.model_copy(update={"rows": min(item.rows, 50)}) for item in INPUTS]
    model = build_model(SharedBottom(bottom=(8,), tower=(4,)), TASKS, twin, precision=candidate.precision)
    compile_model(model, TASKS, StaticBalance(), Training(), jit_compile=candidate.jit_compile)
    assert step_seconds(model, drawn_batch(twin, TASKS, 32)) > 0
    assert model.get_layer("shared_1").compute_dtype == candidate.precision
    assert int(model.optimizer.iterations) >= 3
