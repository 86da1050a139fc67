"""What tasks share is found from the graph, and cutting there changes no number."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from onehull.balance import PCGrad
from onehull.model import MultiTaskModel, parameter_costs
from onehull.model.costs import output_tensors
from onehull.model.sharing import find_sharing

X = {"x": np.random.default_rng(0).normal(size=(16, 3)).astype("float32")}


def cut(model):
    return find_sharing(model.input, output_tensors(model), model.output)


def same_outputs(model, sharing):
    frontier = sharing.trunk(X)
    outputs = sharing.heads(list(frontier) if isinstance(frontier, (list, tuple)) else [frontier])
    for task, value in model(X).items():
        np.testing.assert_array_equal(outputs[task], value)


def shared_bottom():
    x = keras.Input((3,), name="x")
    hidden = keras.layers.Dense(4, name="shared")(x)
    return MultiTaskModel(
        inputs={"x": x}, outputs={name: keras.layers.Dense(1, name=name)(hidden) for name in ("a", "b")}
    )


def esmm():
    """The click probability is an output and a factor of another output."""
    x = keras.Input((3,), name="x")
    hidden = keras.layers.Dense(4, "relu", name="shared")(x)
    click = keras.layers.Dense(1, "sigmoid", name="click")(keras.layers.Dense(4, name="tower_click")(hidden))
    conversion = keras.layers.Dense(1, "sigmoid", name="given_click")(hidden)
    both = keras.layers.Multiply(name="buy")([click, conversion])
    return MultiTaskModel(inputs={"x": x}, outputs={"click": click, "buy": both})


def siamese():
    """One layer is called in both towers."""
    x = keras.Input((3,), name="x")
    hidden = keras.layers.Dense(4, name="shared")(x)
    again = keras.layers.Dense(4, kernel_regularizer="l2", name="again")
    towers = {name: keras.layers.Dense(4, name=f"tower_{name}")(hidden) for name in ("a", "b")}
    return MultiTaskModel(
        inputs={"x": x}, outputs={name: keras.layers.Dense(1, name=name)(again(own)) for name, own in towers.items()}
    )


def independent():
    x = keras.Input((3,), name="x")
    scaled = keras.layers.Rescaling(2.0, name="scaled")(x)  # shared, but there is nothing in it to train
    return MultiTaskModel(
        inputs={"x": x}, outputs={name: keras.layers.Dense(1, name=name)(scaled) for name in ("a", "b")}
    )


@pytest.mark.parametrize("build", [shared_bottom, esmm, siamese])
def test_trunk_and_heads_are_the_model(build):
    model = build()
    sharing = cut(model)
    assert sharing is not None
    same_outputs(model, sharing)


def test_the_frontier_of_a_shared_bottom_is_its_last_layer():
    sharing = cut(shared_bottom())
    assert sharing.differentiable == (True,)
    assert [layer.name for layer in sharing.trunk.layers][-1] == "shared"
    assert {layer.name for layer in sharing.heads.layers} >= {"a", "b"}


def test_tasks_that_share_nothing_trainable_get_the_plain_sum():
    model = independent()
    assert cut(model) is None
    model.compile("sgd", loss="mse", balancer="pcgrad", run_eagerly=True)
    history = model.fit(X, {"a": np.ones(16), "b": np.ones(16)}, verbose=0).history
    assert set(history) == {"loss", "a_loss", "b_loss"}


@pytest.mark.parametrize("build", [shared_bottom, esmm, siamese])
def test_without_conflict_pcgrad_is_the_sum(build):
    # The same labels for the same kind of loss, and positive paths to both outputs: gradients do not conflict.
    keras.utils.set_random_seed(3)
    summed = build()
    balanced = keras.models.clone_model(summed)
    balanced.set_weights(summed.get_weights())
    assert isinstance(balanced, MultiTaskModel)
    names = summed.task_names
    for model in (summed, balanced):
        for weight in model.weights:
            weight.assign(np.abs(weight))
    labels = {name: np.full(16, 50.0) for name in names}
    x = {"x": np.abs(X["x"])}
    summed.compile("sgd", loss="mse", run_eagerly=True)
    balanced.compile("sgd", loss="mse", balancer=PCGrad(), run_eagerly=True)
    expected = summed.fit(x, labels, verbose=0, batch_size=16).history
    found = balanced.fit(x, labels, verbose=0, batch_size=16).history
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for first, second in zip(summed.get_weights(), balanced.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)


def test_conflict_changes_the_shared_layer_and_not_the_heads():
    keras.utils.set_random_seed(3)
    summed = shared_bottom()
    balanced = keras.models.clone_model(summed)
    for model in (summed, balanced):
        for name in ("a", "b"):
            model.get_layer(name).set_weights([np.ones((4, 1), "float32"), np.zeros(1, "float32")])
    balanced.get_layer("shared").set_weights(summed.get_layer("shared").get_weights())
    labels = {"a": np.full(16, 50.0), "b": np.full(16, -20.0)}
    summed.compile("sgd", loss="mse", run_eagerly=True)
    balanced.compile("sgd", loss="mse", balancer="pcgrad", run_eagerly=True)
    summed.fit(X, labels, verbose=0, batch_size=16)
    balanced.fit(X, labels, verbose=0, batch_size=16)
    for name in ("a", "b"):
        np.testing.assert_allclose(
            summed.get_layer(name).get_weights()[0], balanced.get_layer(name).get_weights()[0], rtol=1e-5
        )
    first, second = (model.get_layer("shared").get_weights()[0] for model in (summed, balanced))
    assert np.abs(first - second).max() > 1e-3


def test_costs_count_every_variable_once():
    costs = parameter_costs(siamese())
    assert costs.shared == (3 * 4 + 4) + (4 * 4 + 4)
    assert costs.by_task == {"a": 4 * 4 + 4 + 5, "b": 4 * 4 + 4 + 5}
    assert costs.total == costs.shared + sum(costs.by_task.values())
    assert costs.independent == 2 * (costs.shared + costs.by_task["a"])
    assert costs.total_bytes == 4 * costs.total


def test_a_model_without_a_graph_is_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="must be a functional model"):
        parameter_costs(Subclassed())
