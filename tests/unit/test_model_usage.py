"""How a model uses its experts: measured on models whose gates are known."""

from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest
from pydantic import TypeAdapter

from onehull.model import build_model, compile_model
from onehull.model.experts import Experts
from onehull.model.gate import Gate
from onehull.model.mixture import Mixture
from onehull.model.usage import ExpertUsage, expert_usage
from onehull.spec.balance import Balance
from onehull.spec.inputs import ModelInput
from onehull.spec.model import Model
from onehull.spec.tasks import BinaryTask
from onehull.spec.training import Training

X = np.ones((6, 2), "float32")


def model_of(biases, kernel=0.0):
    """One gate over experts that all read a pair of ones, with these logits; and the layers."""
    names = tuple("abcdefgh"[: len(biases)])
    inputs = keras.Input((2,), name="x")
    experts, gate = Experts(names, (4,), seed=1), Gate(names, "like", seed=1, name="gate_like")
    mixed = Mixture()([experts(inputs), gate(inputs)])
    model = keras.Model(inputs, mixed)
    gate.weights[0].assign(np.full((2, len(biases)), kernel, "float32"))
    gate.weights[1].assign(biases)
    return model, experts


def usage_of(model, x=X):
    usage = expert_usage(model, [x[:4], (x[4:], None)])
    assert usage is not None
    return usage


def test_weights_and_entropy_are_means_over_all_rows():
    model, _ = model_of([math.log(3), 0.0])
    (gate,) = usage_of(model).gates
    assert (gate.task, gate.level, gate.experts) == ("like", 1, ("a", "b"))
    np.testing.assert_allclose(gate.mean_weights, [0.75, 0.25], rtol=1e-6)
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert gate.entropy_nats == pytest.approx(entropy)
    assert gate.entropy_share == pytest.approx(entropy / math.log(2))
    assert gate.mean_largest == pytest.approx(0.75)
    assert usage_of(model).rows == 6


def test_a_gate_that_chooses_another_expert_for_each_row_is_polarised_though_its_means_are_equal():
    model, _ = model_of([0.0, 0.0])
    model.get_layer("gate_like").weights[0].assign([[9.0, -9.0], [0.0, 0.0]])
    x = np.array([[1, 0], [-1, 0]] * 3, "float32")
    usage = usage_of(model, x)
    np.testing.assert_allclose(usage.gates[0].mean_weights, [0.5, 0.5], rtol=1e-5)
    assert usage.polarised == ("like (level 1)",)
    assert usage.gates[0].entropy_share < 0.01
    assert usage.collapsed == ()


@pytest.mark.parametrize(("share", "collapsed"), [(0.01, True), (0.03, False)])
def test_an_expert_has_collapsed_below_a_tenth_of_an_equal_share(share, collapsed):
    # Of four experts, an equal share is 0.25 and a tenth of it 0.025.
    rest = (1 - share) / 3
    model, experts = model_of(np.log([share, rest, rest, rest]).astype("float32"))
    experts.weights[1].assign(np.ones((4, 1, 4), "float32"))  # no expert is dead
    usage = usage_of(model)
    assert usage.collapsed == (("a (level 1)",) if collapsed else ())
    assert usage.experts[0].largest_weight == pytest.approx(share, rel=1e-4)
    assert usage.polarised == ()


def test_dead_units_and_zeros_are_counted_over_the_sample():
    model, experts = model_of([0.0, 0.0])
    kernel, bias = experts.weights
    kernel.assign(np.zeros((2, 2, 4), "float32"))
    # Expert a: two units always on, one never, one on a third of the rows. Expert b: nothing, ever.
    bias.assign([[[1, 1, -1, 0]], [[-1, -1, -1, -1]]])
    slope = np.zeros((2, 2, 4), "float32")
    slope[0, 0, 3] = 1
    kernel.assign(slope)
    x = np.array([[1, 0], [0, 0], [0, 0]] * 2, "float32")
    first, second = usage_of(model, x).experts
    assert (first.expert, first.units, first.dead) == ("a", 4, 0.25)
    assert first.zeros == pytest.approx((6 + 4) / 24)
    assert not first.collapsed
    assert (second.expert, second.dead, second.zeros, second.collapsed) == ("b", 1, 1, True)


def test_a_model_without_gates_or_rows_has_no_usage():
    inputs = keras.Input((2,), name="x")
    assert expert_usage(keras.Model(inputs, keras.layers.Dense(1)(inputs)), [X]) is None
    assert expert_usage(model_of([0.0, 0.0])[0], []) is None


def test_it_is_plain_json_and_text():
    usage = usage_of(model_of([9.0, 0.0])[0])
    plain = usage.to_json()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["polarised"] == ["like (level 1)"]
    assert plain["gates"][0]["experts"] == ["a", "b"]
    text = "\n".join(usage.lines())
    assert "like (level 1): a 100%, b 0%; entropy 0.00 nats" in text
    assert "Polarised: like (level 1)" in text
    assert "Collapsed: b (level 1)" in text


TASKS = {name: BinaryTask(kind="binary") for name in ("click", "like")}
INPUTS = (ModelInput(name="user", kind="id", rows=20, dim=4), ModelInput(name="age", kind="dense"))


@pytest.mark.parametrize("kind", ["mmoe", "cgc", "ple", "adatt", "stem", "home", "cross_stitch"])
def test_it_finds_the_gates_of_every_architecture_also_after_training_through_a_cut_graph(kind):
    gates = {} if kind == "cross_stitch" else {"gate_dropout": 0.2}
    section = TypeAdapter(Model).validate_python({"kind": kind, "tower": (3,), **gates})
    model = build_model(section, TASKS, INPUTS, seed=1)
    compile_model(model, TASKS, TypeAdapter(Balance).validate_python({"kind": "pcgrad"}), Training())
    model.run_eagerly = True
    rng = np.random.default_rng(0)
    x = {"user": rng.integers(0, 20, 64).astype("int32"), "age": rng.normal(size=(64, 1)).astype("float32")}
    model.fit(x, {task: rng.integers(0, 2, 64).astype("float32") for task in TASKS}, batch_size=64, verbose=0)
    usage = expert_usage(model, [x])
    if kind == "cross_stitch":
        assert usage is None
        return
    assert isinstance(usage, ExpertUsage)
    assert set(TASKS) <= {gate.task for gate in usage.gates}
    known = {(unit.level, unit.expert) for unit in usage.experts}
    for gate in usage.gates:
        assert {(gate.level, expert) for expert in gate.experts} <= known
        assert sum(gate.mean_weights) == pytest.approx(1)
        assert 0 < gate.entropy_share <= 1 + 1e-9
    assert all(unit.largest_weight is not None for unit in usage.experts)
