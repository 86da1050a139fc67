"""Around the update: batches that are not finite, a second look after the step, conflicts, refused weights."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf

from onehull.balance import BALANCERS, Balancer
from onehull.model import MultiTaskModel


def build(seed=0, batch_norm=False):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,), name="x")
    hidden = keras.layers.Dense(8, "tanh", name="bottom")(inputs)
    if batch_norm:
        hidden = keras.layers.BatchNormalization(name="norm")(hidden)
    outputs = {task: keras.layers.Dense(1, name=task)(hidden) for task in ("a", "b", "c")}
    return MultiTaskModel(inputs=inputs, outputs=outputs)


def data(rows=32, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4)).astype("float32")
    return x, {"a": x[:, 0].copy(), "b": -x[:, 0] + 0.1 * x[:, 1], "c": x[:, 2].copy()}


@pytest.mark.parametrize("balancer", [None, "dwa", "pcgrad", "famo"])
@pytest.mark.parametrize("eager", [True, False])
def test_a_batch_that_is_not_finite_is_left_out(balancer, eager):
    x, y = data()
    poisoned = {**y, "b": np.where(np.arange(32) == 3, np.inf, y["b"]).astype("float32")}
    sound, broken = (build(batch_norm=True) for _ in range(2))
    for model in (sound, broken):
        model.compile("adam", "mse", balancer=balancer, non_finite="skip", run_eagerly=eager)
    sound.train_on_batch(x, y)
    broken.train_on_batch(x, y)
    logs = broken.train_on_batch(x, poisoned, return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())
    assert broken.not_finite == {"b": 1}
    for first, second in zip(sound.get_weights(), broken.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    broken.train_on_batch(x, y)
    assert all(np.isfinite(weight).all() for weight in broken.get_weights())


def test_a_gradient_that_is_not_finite_is_left_out_too():
    x, y = data()
    inputs = keras.Input((4,))
    root = keras.layers.Lambda(tf.sqrt, name="root")(
        keras.layers.Dense(1, kernel_initializer="zeros", name="d")(inputs)
    )
    model = MultiTaskModel(inputs=inputs, outputs={"a": root, "b": keras.layers.Dense(1, name="b")(inputs)})
    model.compile("sgd", "mse", non_finite="skip", run_eagerly=True)
    before = model.get_weights()
    model.train_on_batch(x, {"a": y["a"], "b": y["b"]})  # the square root is 0 and its slope infinite
    for first, second in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_without_skipping_the_loss_is_reported():
    x, y = data()
    y["b"][3] = np.inf
    model = build()
    model.compile("adam", "mse", run_eagerly=True)
    assert not np.isfinite(model.train_on_batch(x, y, return_dict=True)["b_loss"])
    model.train_on_batch(x, y)
    assert model.not_finite == {"b": 1}
    with pytest.raises(ValueError, match="non_finite must be 'stop' or 'skip'"):
        model.compile("adam", "mse", non_finite="ignore")


@dataclass(frozen=True)
class Second(Balancer):
    """Keeps the losses before and after each step."""

    needs: str = "losses"  # type: ignore[assignment]
    reevaluates: bool = True

    def init(self, num_tasks):
        return {"before": tf.zeros(num_tasks), "after": tf.zeros(num_tasks)}

    def update(self, stats, state):
        return tf.ones_like(stats.losses_T), {**state, "before": stats.losses_T}

    def observe(self, losses_T, stats, state):
        del stats
        return {**state, "after": losses_T}


@pytest.mark.parametrize("eager", [True, False])
def test_a_method_may_look_again_at_the_batch_after_the_step(eager):
    x, y = data()
    model = build()
    model.compile(keras.optimizers.SGD(0.1), "mse", balancer=Second(), run_eagerly=eager)
    before = [float(np.mean((model(x)[t][:, 0] - y[t]) ** 2)) for t in ("a", "b", "c")]
    logs = model.train_on_batch(x, y, return_dict=True)
    after = [float(np.mean((model(x)[t][:, 0] - y[t]) ** 2)) for t in ("a", "b", "c")]
    state = model.training_state
    np.testing.assert_allclose(state["balancer_before"], before, rtol=1e-5)
    np.testing.assert_allclose(state["balancer_after"], after, rtol=1e-5)
    # The second look adds nothing to the means of the log.
    assert logs["a_loss"] == pytest.approx(before[0], rel=1e-5)


def test_the_conflict_matrix_is_the_mean_cosine_of_the_epoch():
    x, y = data()
    y["c"] = np.full(32, np.nan, "float32")
    model = build()
    model.compile(keras.optimizers.SGD(0.0), "mse", balancer="pcgrad", level="parameters", run_eagerly=True)
    logs = model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
    cosines = [cosine(model, x[rows], y["a"][rows], y["b"][rows]) for rows in (slice(0, 16), slice(16, 32))]
    matrix = model.conflicts.matrix()
    assert matrix[0, 1] == matrix[1, 0] == pytest.approx(np.mean(cosines), rel=1e-4)
    np.testing.assert_allclose(np.diag(matrix)[:2], 1, rtol=1e-5)
    assert np.isnan(matrix[2]).all()
    assert model.conflicts.tasks == ("a", "b", "c")
    assert not [name for name in logs if "conflict" in name or "cosine" in name]


def cosine(model, x, first, second):
    """Between the gradients of two tasks at the shared layer."""
    variables = [variable.value for variable in model.get_layer("bottom").trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        outputs = model(x)
        losses = [tf.reduce_mean((outputs[t][:, 0] - y) ** 2) for t, y in (("a", first), ("b", second))]
    one, two = (tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(loss, variables)], 0) for loss in losses)
    return float(tf.reduce_sum(one * two) / (tf.norm(one) * tf.norm(two)))


def test_methods_on_losses_have_no_conflict_matrix():
    model = build()
    model.compile("adam", "mse", balancer="dwa")
    assert model.conflicts is None


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_negative_and_infinite_weights_are_refused(weight):
    with pytest.raises(ValueError, match=r"loss_weights\['b'\] must be a finite number of at least 0"):
        build().compile("adam", "mse", loss_weights={"a": 1.0, "b": weight})


@pytest.mark.parametrize("balancer", [None, *sorted(BALANCERS)])
def test_a_task_of_weight_zero_is_measured_and_not_learned(balancer):
    x, y = data()
    model = build()
    model.compile(keras.optimizers.SGD(0.01), "mse", loss_weights={"b": 0.0}, balancer=balancer, run_eagerly=True)
    head = model.get_layer("b").get_weights()
    logs = model.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in logs.values())
    assert logs["b_loss"][0] > 0
    for first, second in zip(head, model.get_layer("b").get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("balancer", sorted(BALANCERS))
def test_all_labels_missing_changes_nothing(balancer):
    x, y = data()
    model = build()
    model.compile(keras.optimizers.SGD(0.1), "mse", balancer=balancer, run_eagerly=True)
    model.train_on_batch(x, y)
    before = model.get_weights()
    logs = model.train_on_batch(x, {task: np.full(32, np.nan, "float32") for task in y}, return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())
    for first, second in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("balancer", sorted(BALANCERS))
def test_every_method_survives_saving_and_loading(balancer, tmp_path):
    x, y = data()
    model = build()
    model.compile("adam", "mse", balancer=balancer, run_eagerly=True)
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_compile_config()["balancer"] == model.get_compile_config()["balancer"]
    loaded.run_eagerly = True
    loaded.train_on_batch(x, y)
