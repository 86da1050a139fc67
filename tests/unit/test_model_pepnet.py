"""EPNet and PPNet: gates that start at 1, what they read and what they move, alone and in every architecture."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from onehull.model import Tower, build_model, parameter_costs
from onehull.model.epnet import EpNet
from onehull.model.gate_nu import GateNU
from onehull.model.ppnet import PpNet
from onehull.spec import validate
from onehull.spec.inputs import ModelInput
from onehull.spec.model import SharedBottom
from onehull.spec.tasks import BinaryTask

RNG = np.random.default_rng(0)
EMBEDDED = RNG.normal(size=(6, 8)).astype("float32")
INPUTS = (
    ModelInput(name="user", kind="id", rows=20, dim=4),
    ModelInput(name="age", kind="dense", length=3),
    ModelInput(name="tags", kind="ids", rows=9, length=2, dim=5),
)
TASKS = {"click": BinaryTask(kind="binary"), "like": BinaryTask(kind="binary")}
GATES: dict[str, Any] = {"epnet": {"features": ["tags"]}, "ppnet": {"features": ["user", "age"], "hidden": 3}}


def perturbed(layer):
    """The layer with every variable moved, so that gates are not 1."""
    for variable in layer.trainable_variables:
        variable.assign(variable + RNG.normal(size=variable.shape, scale=0.3))
    return layer


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


@pytest.mark.parametrize("gamma", [2.0, 3.0])
def test_a_gate_starts_at_one_and_ends_at_gamma(gamma):
    gate = GateNU(4, hidden=5, gamma=gamma, seed=1)
    np.testing.assert_allclose(gate(EMBEDDED), np.ones((6, 4)), rtol=1e-6)
    if gamma == 2.0:
        assert np.equal(gate(EMBEDDED), 1).all()
    w1, b1, w2, b2 = (variable.numpy() for variable in perturbed(gate).trainable_variables)
    expected = gamma * sigmoid(np.maximum(EMBEDDED @ w1 + b1, 0) @ w2 + b2)
    np.testing.assert_allclose(gate(EMBEDDED), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"gamma must be above 1.*Received 1"):
        GateNU(4, gamma=1)


def test_epnet_gates_by_the_domain_and_only_sees_the_rest():
    layer = EpNet([(2, 4)], hidden=5, seed=1)
    np.testing.assert_array_equal(layer(EMBEDDED), EMBEDDED)
    perturbed(layer)
    inputs = tf.constant(EMBEDDED)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
    gradient = tape.gradient(outputs, inputs).numpy()
    gates = outputs.numpy() / EMBEDDED
    assert np.abs(gates - 1).max() > 0.05
    # Beyond the product with its gate, only the domain's columns have a gradient: the gate sees the others detached.
    others = [column for column in range(8) if column not in (2, 3)]
    np.testing.assert_allclose(gradient[:, others], gates[:, others], rtol=1e-4)
    assert (np.abs(gradient[:, 2:4] - gates[:, 2:4]).max(axis=0) > 0.05).all()


def test_ppnet_starts_as_the_tower_of_its_name_and_gates_hidden_units():
    options: dict[str, Any] = {"activation": "tanh", "seed": 3, "name": "tower_like"}
    tower, gated = Tower((5, 4), **options), PpNet((5, 4), [(0, 3)], **options)
    hidden = tf.constant(RNG.normal(size=(6, 7)).astype("float32"))
    embedded = tf.constant(EMBEDDED)
    np.testing.assert_array_equal(gated((hidden, embedded, embedded)), tower(hidden))
    perturbed(gated)
    own, seen = tf.constant(EMBEDDED), tf.constant(EMBEDDED)
    with tf.GradientTape() as tape:
        tape.watch([hidden, own, seen])
        outputs = gated((hidden, own, seen))
    at_hidden, at_own, at_seen = tape.gradient(outputs, [hidden, own, seen])
    assert np.abs(at_hidden).min(axis=1).max() > 0
    assert np.abs(at_own[:, :3]).max() > 0
    assert not np.any(at_own[:, 3:])
    assert at_seen is None


def count(layer):
    return sum(int(np.prod(variable.shape)) for variable in layer.trainable_variables)


def test_parameters_are_those_of_the_canonical_configuration():
    epnet = EpNet([(0, 16)], hidden=256)
    epnet.build((None, 256))
    assert count(epnet) == 135_680
    layers = [PpNet((128, 64), [(0, 32)]) for _ in range(3)]
    for layer in layers:
        layer.build([(None, 256)] * 3)
    assert sum(map(count, layers)) == 351_936


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (GateNU(4, hidden=3, gamma=3.0, l2=0.1, seed=2, name="gate"), (None, 8)),
        (EpNet([(0, 2), (5, 6)], hidden=3, l2=0.1, seed=2, name="epnet"), (None, 8)),
        (
            PpNet((4, 3), [(1, 3)], hidden=2, dropout=0.1, l2=0.1, seed=2, name="tower_a"),
            [(None, 5), (None, 8), (None, 8)],
        ),
    ],
)
def test_a_layer_is_made_again_from_its_config(layer, shapes):
    again = type(layer).from_config(layer.get_config())
    again.build(shapes)
    layer.build(shapes)
    assert again.get_config() == layer.get_config()
    for first, second in zip(layer.weights, again.weights, strict=True):
        np.testing.assert_array_equal(first, second)


def rows(count=32):
    rng = np.random.default_rng(1)
    return {
        "user": rng.integers(0, 20, count).astype("int32"),
        "age": rng.normal(size=(count, 3)).astype("float32"),
        "tags": rng.integers(0, 9, (count, 2)).astype("int32"),
    }


def test_a_model_with_gates_starts_as_the_model_without():
    plain = build_model(SharedBottom(bottom=(8,), tower=(4,)), TASKS, INPUTS, seed=1)
    gated = build_model(SharedBottom(bottom=(8,), tower=(4,), **GATES), TASKS, INPUTS, seed=1)
    for task, scores in plain.predict(rows(), verbose=0).items():
        np.testing.assert_allclose(gated.predict(rows(), verbose=0)[task], scores, rtol=1e-6)
    # Domain 5, embeddings 12: a gate of 12; user and age 4 + 3, embeddings 12: a gate of 4 for each task.
    epnet, ppnet = 17 * 12 + 12 + 12 * 12 + 12, 19 * 3 + 3 + 3 * 4 + 4
    assert parameter_costs(gated).shared == parameter_costs(plain).shared + epnet
    assert parameter_costs(gated).total == parameter_costs(plain).total + epnet + 2 * ppnet


def test_gates_read_the_columns_of_their_features():
    model = build_model(SharedBottom(bottom=(8,), tower=(4,), **GATES), TASKS, INPUTS, seed=1)
    assert model.get_layer("epnet").columns == ((7, 12),)
    assert model.get_layer("tower_click").columns == ((0, 4), (4, 7))
    with pytest.raises(ValueError, match=r"model.epnet.features must name inputs. Received \['tag'\]. Known: \['user'"):
        build_model(SharedBottom(**{**GATES, "epnet": {"features": ["tag"]}}), TASKS, INPUTS)


def test_independent_models_have_gates_of_their_own():
    section = SharedBottom(bottom=(8,), tower=(4,), sharing_depth=0, **GATES)
    model = build_model(section, TASKS, INPUTS, seed=1)
    assert parameter_costs(model).shared == 0
    assert {"epnet_click", "epnet_like"} <= {layer.name for layer in model.layers}


def test_gates_leave_one_when_they_are_trained():
    model = build_model(SharedBottom(bottom=(8,), tower=(4,), embedding_stddev=0.5, **GATES), TASKS, INPUTS, seed=1)
    x = rows()
    y = {"click": (x["user"] % 2).astype("float32"), "like": (x["tags"][:, 0] % 2).astype("float32")}
    model.compile(keras.optimizers.Adam(0.02), loss="binary_crossentropy", balancer="pcgrad", run_eagerly=True)
    history = model.fit(x, y, epochs=15, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    for name in ("epnet", "tower_click", "tower_like"):
        last = [variable for variable in model.get_layer(name).weights if "gates/kernel" in variable.path]
        assert last
        assert all(np.abs(kernel.numpy()).max() > 0.01 for kernel in last)


def test_features_of_gates_that_are_not_there_are_refused():
    document = {
        "name": "small",
        "data": {"samples": "a.parquet", "split": {"by": "column", "column": "d", "validation": [1], "test": [2]}},
        "features": {"user_id": {"kind": "categorical"}},
        "tasks": {"click": {"kind": "binary", "label": "is_click"}},
        "model": {"epnet": {"features": ["usr_id"]}, "ppnet": {"features": ["item_id", "user_id"]}},
    }
    found = [str(fault) for fault in validate(document)[1]]
    assert len(found) == 2
    assert "model.epnet.features must name features. Received 'usr_id'." in found[0]
    assert "Did you mean 'user_id'?" in found[0]
    assert "model.ppnet.features must name features. Received 'item_id'." in found[1]
