"""AITM: the chain, its attention, and the calibrator, which changes no prediction and hides no logits."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from onehull.model import MultiTaskModel, build_model, parameter_costs
from onehull.model.aitm_attention import AitmAttention
from onehull.model.calibrator import MonotoneCalibrator
from onehull.model.costs import output_tensors
from onehull.model.sharing import find_sharing, task_layers
from onehull.spec import validate
from onehull.spec.inputs import ModelInput
from onehull.spec.model import Aitm
from onehull.spec.tasks import BinaryTask, RegressionTask

TASKS = {name: BinaryTask(kind="binary") for name in ("click", "cart", "buy")}
INPUTS = (ModelInput(name="user", kind="id", rows=20, dim=4), ModelInput(name="age", kind="dense", length=3))
RNG = np.random.default_rng(0)
X = {"user": RNG.integers(0, 20, 32).astype("int32"), "age": RNG.normal(size=(32, 3)).astype("float32")}


def build(tasks=None, seed=1, inputs=INPUTS, **fields):
    return build_model(
        Aitm(kind="aitm", **{"tower": (6, 4), **fields}), TASKS if tasks is None else tasks, inputs, seed=seed
    )


def scores(model):
    return model.predict(X, verbose=0)


def test_parameters_are_those_of_the_canonical_configuration():
    inputs = (ModelInput(name="x", kind="dense", length=256),)
    costs = parameter_costs(build(inputs=inputs, tower=(128, 64)))
    assert costs.total == 144_259
    # The calibrator makes nothing shared: a step has its tower, what is handed to it, and its head.
    tower, handed, attention, head = 41_152, 64 * 65, 3 * 64 * 64, 65
    assert costs.by_task == {"click": head, "cart": head, "buy": tower + handed + head}
    assert costs.shared == 2 * tower + handed + attention


def test_attention_mixes_two_vectors_by_their_scores():
    layer = AitmAttention(seed=3, name="attention")
    p, q = (RNG.normal(size=(5, 4)).astype("float32") for _ in range(2))
    found = layer([p, q])
    h1, h2, h3 = (variable.numpy() for variable in layer.trainable_variables)
    score = np.stack([((u @ h1) * (u @ h2)).sum(1) / 2 for u in (p, q)], axis=1)
    share = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    np.testing.assert_allclose(found, share[:, :1] * (p @ h3) + share[:, 1:] * (q @ h3), rtol=1e-4, atol=1e-6)
    again = AitmAttention.from_config(layer.get_config())
    np.testing.assert_array_equal(again([p, q]), found)


def test_a_step_depends_on_the_steps_before_it_only():
    layers = {task: {layer.name for layer in found} for task, found in task_layers(output_tensors(build())).items()}
    towers = {task: {name for name in names if name.startswith("tower_")} for task, names in layers.items()}
    assert towers["click"] == {"tower_click"}
    assert towers["cart"] == {"tower_click", "tower_cart"}
    assert towers["buy"] == {"tower_click", "tower_cart", "tower_buy"}


def test_the_order_is_the_architecture_and_the_keys_are_not():
    order = ("click", "cart", "buy")
    reference = scores(build(order=order))
    turned = scores(build(dict(reversed(TASKS.items())), order=order))
    other = scores(build(order=("buy", "cart", "click")))
    for task in TASKS:
        np.testing.assert_array_equal(reference[task], turned[task])
        assert np.abs(reference[task] - other[task]).max() > 1e-4
    np.testing.assert_array_equal(scores(build())["buy"], reference["buy"])


def test_a_task_alone_needs_no_chain():
    alone = build({"buy": TASKS["buy"]}, order=("click", "cart", "buy"))
    assert set(scores(alone)) == {"buy"}
    with pytest.raises(ValueError, match=r"model.order must name every task once. Received \['click'\]"):
        build(order=("click",))


def test_towers_of_different_widths_are_refused():
    tasks = {**TASKS, "cart": BinaryTask(kind="binary", tower=(8, 3))}
    with pytest.raises(ValueError, match=r"must end in the same width.*'click': 4, 'cart': 3, 'buy': 4"):
        build(tasks)
    assert build({**TASKS, "cart": BinaryTask(kind="binary", tower=(9, 7, 4))}).count_params()


def test_the_calibrator_adds_what_rises_and_passes_the_rest():
    layer = MonotoneCalibrator(("click", "cart", "buy"), 0.5)
    predictions = {"click": [[0.5], [0.2]], "cart": [[0.3], [0.4]], "buy": [[0.4], [0.1]]}
    predictions = {task: tf.constant(values) for task, values in predictions.items()}
    outputs = layer(predictions, training=True)
    assert all(outputs[task] is predictions[task] for task in predictions)
    penalty = sum(layer.losses)
    # Rises: cart over click by 0.2 in the second row, buy over cart by 0.1 in the first.
    assert float(penalty) == pytest.approx(0.5 * (0.2 / 2 + 0.1 / 2))
    layer(predictions, training=False)
    assert layer.losses == []
    assert MonotoneCalibrator.from_config(layer.get_config()).order == ("click", "cart", "buy")


def calibrators(model):
    return [layer.order for layer in model.layers if isinstance(layer, MonotoneCalibrator)]


def test_only_probabilities_of_the_same_rows_are_compared():
    tasks = {
        "click": TASKS["click"],
        "watch": RegressionTask(kind="regression"),
        "cart": BinaryTask(kind="binary", observed_when="click"),
        "like": TASKS["buy"],
        "buy": BinaryTask(kind="binary", observed_when="click"),
    }
    assert set(calibrators(build(tasks))) == {("click", "like"), ("cart", "buy")}
    assert calibrators(build(tasks, calibrator=0.0)) == []
    assert calibrators(build({name: tasks[name] for name in ("click", "watch", "cart")})) == []


@pytest.mark.parametrize("balancer", [None, "pcgrad"])
@pytest.mark.parametrize("eager", [True, False])
def test_the_loss_still_finds_the_logits(balancer, eager):
    model = build(calibrator=0.6)
    start = {"click": 60.0, "cart": -60.0, "buy": 60.0}
    for task, bias in start.items():
        model.get_layer(task).set_weights([np.zeros((4, 1)), np.array([bias])])
    model.compile(
        keras.optimizers.SGD(1.0), loss="binary_crossentropy", balancer=balancer, run_eagerly=eager, jit_compile=False
    )
    labels = {"click": np.zeros(32), "cart": np.ones(32), "buy": np.zeros(32)}
    history = model.fit(X, labels, batch_size=32, verbose=0).history
    # From clipped probabilities the loss would be 16, and no gradient would be left.
    for task, bias in start.items():
        assert history[f"{task}_loss"] == [pytest.approx(60.0)]
        assert model.get_layer(task).get_weights()[1] == pytest.approx(bias - np.sign(bias), rel=1e-5)


def test_the_calibrator_does_not_become_what_tasks_share():
    with_it, without = build(), build(calibrator=0.0)
    found = [find_sharing(model.input, output_tensors(model), model.output) for model in (with_it, without)]
    cuts = [cut for cut in found if cut is not None]
    layers = [[layer.name for layer in cut.trunk.layers if "input" not in layer.name] for cut in cuts]
    assert layers[0] == layers[1]
    assert "click" not in layers[0]
    assert any(isinstance(layer, MonotoneCalibrator) for layer in cuts[0].heads.layers)


@pytest.mark.parametrize("balancer", [None, "pcgrad"])
def test_the_calibrator_lowers_later_steps(balancer):
    labels = {
        "click": (X["user"] % 2).astype("float32"),
        "cart": RNG.integers(0, 2, 32).astype("float32"),
        "buy": np.ones(32, "float32"),
    }
    rises = {}
    for weight in (0.0, 20.0):
        model = build(calibrator=weight)
        model.compile(keras.optimizers.Adam(0.1), loss="binary_crossentropy", balancer=balancer, run_eagerly=True)
        model.fit(X, labels, batch_size=32, epochs=8, verbose=0)
        found = scores(model)
        rises[weight] = np.maximum(0, found["buy"] - found["cart"]).mean()
    assert rises[20.0] < 0.3 * rises[0.0]


def test_what_is_saved_is_loaded_as_it_was(tmp_path):
    model = build()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, MultiTaskModel)
    assert calibrators(loaded) == [("click", "cart", "buy")]
    for task, values in scores(model).items():
        np.testing.assert_array_equal(scores(loaded)[task], values)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            {"order": ["click", "by"]},
            ["model.order must name tasks. Received 'by'.", "model.order must name every task"],
        ),
        ({"order": ["click", "buy", "click"]}, ["model.order must name a task at most once. Received 'click'."]),
        ({"tower": [8, 4]}, ["model.tower must end in the same width for all tasks of an aitm"]),
    ],
)
def test_a_spec_whose_chain_does_not_hold_is_refused(model, expected):
    document = {
        "name": "small",
        "data": {"samples": "a.parquet", "split": {"by": "column", "column": "d", "validation": [1], "test": [2]}},
        "features": {"age": {"kind": "numeric"}},
        "tasks": {
            "click": {"kind": "binary", "label": "is_click"},
            "buy": {"kind": "binary", "label": "is_buy", "tower": [64]},
        },
        "model": {"kind": "aitm", **model},
    }
    found = [str(fault) for fault in validate(document)[1]]
    assert len(found) == len(expected)
    for fault, start in zip(found, expected, strict=True):
        assert start in fault
    document["model"] = {"kind": "aitm", "order": ["buy", "click"]}
    assert not validate(document)[1]
