"""MultiTaskModel is used as any Keras model; labels may be missing; a balancer changes nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf

from onehull.balance import Balancer, Dwa, PCGrad
from onehull.model import MultiTaskModel

TASKS = ("output_ctr", "output_duration", "output_category")
COMPILE: dict[str, dict] = {
    "loss": {
        "output_ctr": "binary_crossentropy",
        "output_duration": "mse",
        "output_category": "sparse_categorical_crossentropy",
    },
    "loss_weights": {"output_ctr": 1.0, "output_duration": 0.5, "output_category": 0.3},
    "metrics": {"output_ctr": ["AUC"], "output_duration": ["mae"], "output_category": ["accuracy"]},
}


@dataclass(frozen=True)
class Ones(Balancer):
    """Asks for the gradients, and then weighs every task 1."""

    needs: ClassVar = "gram"

    def init(self, num_tasks):
        del num_tasks
        return {}

    def update(self, stats, state):
        return tf.ones_like(stats.losses_T), dict(state)


def build(model_class=MultiTaskModel, seed=1, tasks=TASKS, gates=False, regularizer="l2"):
    keras.utils.set_random_seed(seed)
    inputs = {"user": keras.Input((), dtype="int32", name="user"), "age": keras.Input((3,), name="age")}
    embedded = keras.layers.Embedding(50, 4, name="embedding")(inputs["user"])
    joined = keras.layers.Concatenate(name="joined")([embedded, inputs["age"]])
    hidden = keras.layers.Dense(16, "relu", kernel_regularizer=regularizer, name="shared_1")(joined)
    shared = keras.layers.Dense(8, "relu", name="shared_2")(hidden)
    ends = {"output_ctr": (1, "sigmoid"), "output_duration": (1, None), "output_category": (5, "softmax")}
    outputs = {}
    for task in tasks:
        own = shared
        if gates:  # as in MMoE: a gate of the task reads the inputs and an inner layer
            read = keras.layers.Concatenate(name=f"read_{task}")([joined, hidden, inputs["age"]])
            own = keras.layers.Multiply(name=f"gated_{task}")(
                [shared, keras.layers.Dense(8, "softmax", name=f"gate_{task}")(read)]
            )
        tower = keras.layers.Dense(4, "relu", kernel_regularizer=regularizer, name=f"tower_{task}")(own)
        units, end = ends[task]
        outputs[task] = keras.layers.Dense(units, end, name=task)(tower)
    return model_class(inputs=inputs, outputs=outputs)


def data(rows=96, seed=0):
    rng = np.random.default_rng(seed)
    x = {
        "user": rng.integers(0, 50, rows).astype("int32"),
        "age": rng.normal(size=(rows, 3)).astype("float32"),
    }
    y = {
        "output_ctr": rng.integers(0, 2, rows).astype("float32"),
        "output_duration": rng.uniform(size=rows).astype("float32"),
        "output_category": rng.integers(0, 5, rows),
    }
    return x, y


def without(labels, seed=5, share=0.4, value=np.nan):
    """Labels with a share of them missing, and which ones are there."""
    rng = np.random.default_rng(seed)
    present = {task: rng.uniform(size=len(values)) >= share for task, values in labels.items()}
    dtype = {task: values.dtype if value == -1 else np.float32 for task, values in labels.items()}
    return {t: np.where(present[t], v, value).astype(dtype[t]) for t, v in labels.items()}, present


def fitted(model, x, y, epochs=2, batch_size=32, compile_with=COMPILE, **options):
    # Eager steps compute the same and need no trace; the tests of compiled steps say so.
    model.compile(optimizer="adam", **{**compile_with, "run_eagerly": True, **options})
    history = model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return history.history


def largest_difference(first, second):
    return max(float(np.abs(a - b).max()) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


@pytest.mark.parametrize("gates", [False, True])
def test_with_all_labels_it_is_a_keras_model(gates):
    x, y = data()
    plain, ours = build(keras.Model, gates=gates), build(gates=gates)
    expected, found = fitted(plain, x, y, run_eagerly=False), fitted(ours, x, y, run_eagerly=False)
    assert largest_difference(plain, ours) < 1e-5
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    plain_scores, scores = plain.predict(x, verbose=0), ours.predict(x, verbose=0)
    for task in TASKS:
        np.testing.assert_allclose(scores[task], plain_scores[task], atol=1e-5)


def test_sample_weights_are_those_of_keras():
    x, y = data()
    weight = np.random.default_rng(3).uniform(0, 2, 96).astype("float32")
    plain, ours = build(keras.Model), build()
    for model in (plain, ours):
        model.compile(optimizer="adam", loss=COMPILE["loss"], weighted_metrics=COMPILE["metrics"], run_eagerly=True)
    weights = dict.fromkeys(TASKS, weight)
    expected = plain.fit(x, y, sample_weight=weights, batch_size=32, shuffle=False, verbose=0).history
    found = ours.fit(x, y, sample_weight=weights, batch_size=32, shuffle=False, verbose=0).history
    assert largest_difference(plain, ours) < 1e-5
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("gates", [False, True])
def test_weights_of_one_at_the_representation_are_the_weighted_sum(gates):
    x, y = data()
    labels, _ = without(y)
    summed, balanced = build(gates=gates), build(gates=gates)
    expected = fitted(summed, x, labels)
    found = fitted(balanced, x, labels, balancer=Ones(), run_eagerly=False)
    assert largest_difference(summed, balanced) < 1e-5
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)


@pytest.mark.parametrize("balancer", [None, "pcgrad", PCGrad(seed=4), Dwa(window_steps=2)])
@pytest.mark.parametrize("value", [np.nan, -1])
def test_missing_labels_train_with_any_balancer(balancer, value):
    x, y = data()
    labels, _ = without(y, value=value)
    model = build()
    options = {"missing": -1} if value == -1 else {}
    history = fitted(model, x, labels, balancer=balancer, **options)
    assert all(np.isfinite(values).all() for values in history.values())
    assert all(np.isfinite(weights).all() for weights in model.get_weights())
    assert {f"{task}_loss" for task in TASKS} <= set(history)
    assert ({f"{task}_weight" for task in TASKS} <= set(history)) == (balancer is not None)


def test_a_sentinel_and_nan_are_the_same_missing_label():
    x, y = data()
    with_nan, with_sentinel = build(), build()
    fitted(with_nan, x, without(y)[0])
    fitted(with_sentinel, x, without(y, value=-1)[0], missing=dict.fromkeys(TASKS, -1))
    assert largest_difference(with_nan, with_sentinel) == 0


def test_metrics_and_task_losses_are_those_of_the_labelled_rows():
    from sklearn.metrics import roc_auc_score

    x, y = data(rows=100)
    labels, present = without(y)
    model = build()
    fitted(model, x, labels)
    found = model.evaluate(x, labels, batch_size=32, return_dict=True, verbose=0)
    scores = {task: np.squeeze(values) for task, values in model.predict(x, verbose=0).items()}
    rows = present["output_ctr"]
    area = roc_auc_score(y["output_ctr"][rows], scores["output_ctr"][rows])
    assert found["output_ctr_AUC"] == pytest.approx(area, abs=0.01)  # Keras' AUC has 200 thresholds
    error = y["output_duration"] - scores["output_duration"]
    assert found["output_duration_mae"] == pytest.approx(np.abs(error)[present["output_duration"]].mean(), rel=1e-4)
    assert found["output_duration_loss"] == pytest.approx((error**2)[present["output_duration"]].mean(), rel=1e-4)
    right = scores["output_category"].argmax(1) == y["output_category"]
    assert found["output_category_accuracy"] == pytest.approx(right[present["output_category"]].mean(), rel=1e-5)


@pytest.mark.parametrize("balancer", [None, "pcgrad"])
def test_a_batch_without_labels_of_a_task_does_not_move_what_is_its_own(balancer):
    x, y = data(rows=32)
    labels = {**y, "output_duration": np.full(32, np.nan, "float32")}
    model = build(regularizer=None)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    history = fitted(model, x, labels, epochs=1, balancer=balancer)
    assert history["output_duration_loss"] == [0.0]
    for name in ("tower_output_duration", "output_duration"):
        for old, new in zip(before[name], model.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    assert not np.array_equal(before["shared_1"][0], model.get_layer("shared_1").get_weights()[0])


def test_nothing_labelled_at_all_is_a_loss_of_zero():
    x, y = data(rows=32)
    labels = {task: np.full(32, np.nan, "float32") for task in y}
    model = build(regularizer=None)
    before = model.get_weights()
    history = fitted(model, x, labels, epochs=1, balancer="pcgrad")
    assert history["loss"] == [0.0]
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("normalizer", ["coverage", "labelled", "batch", "sum"])
def test_twice_the_weight_is_twice_the_gradient(normalizer):
    x, y = data(rows=32)
    labels, _ = without(y)
    steps = {}
    for weight in (1.0, 2.0):
        model = build(regularizer=None)
        before = model.get_layer("output_duration").get_weights()[0]
        model.compile("sgd", loss=COMPILE["loss"], loss_weights={"output_duration": weight}, normalizer=normalizer)
        model.fit(x, labels, batch_size=32, verbose=0)
        steps[weight] = model.get_layer("output_duration").get_weights()[0] - before
    assert np.abs(steps[1.0]).max() > 0
    np.testing.assert_allclose(steps[2.0], 2 * steps[1.0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("balancer", ["pcgrad", "dwa"])
def test_what_is_saved_is_loaded_as_it_was(balancer, tmp_path):
    x, y = data()
    model = build(gates=True)
    fitted(model, x, y, balancer=balancer, missing=-1, coverage={"output_ctr": 0.5})
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert largest_difference(model, loaded) == 0
    assert loaded.get_compile_config()["balancer"]["kind"] == balancer
    first, second = (m.evaluate(x, y, return_dict=True, verbose=0) for m in (model, loaded))
    assert first == pytest.approx(second)
    loaded.fit(x, y, verbose=0)


@pytest.mark.parametrize("balancer", [None, "pcgrad"])
def test_the_step_is_traced_once_over_equal_and_ragged_batches(balancer):
    traces = []

    @keras.saving.register_keras_serializable("tests")
    class Counting(MultiTaskModel):
        def train_step(self, batch):
            traces.append(1)
            return super().train_step(batch)

    x, y = data(rows=100)
    model = build(Counting)
    fitted(model, x, without(y)[0], epochs=3, balancer=balancer, run_eagerly=False)
    dataset = tf.data.Dataset.from_tensor_slices((x, without(y)[0])).batch(48)
    model.fit(dataset, epochs=1, shuffle=False, verbose=0)
    assert len(traces) == 2  # one for arrays, one for the dataset


@pytest.mark.parametrize("balancer", [None, "pcgrad", "dwa"])
def test_xla_gives_the_same_step(balancer):
    x, y = data()
    labels, _ = without(y)
    plain, compiled = build(), build()
    fitted(plain, x, labels, balancer=balancer, run_eagerly=False, jit_compile=False)
    fitted(compiled, x, labels, balancer=balancer, run_eagerly=False, jit_compile=True)
    assert largest_difference(plain, compiled) < 1e-4


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_near_float32(policy):
    x, y = data()
    labels, _ = without(y)
    exact = build()
    expected = fitted(exact, x, labels, balancer="pcgrad")
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = build()
        found = fitted(model, x, labels, balancer="pcgrad")
    finally:
        keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=0.05)
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


def test_clipping_by_norm_holds_with_a_balancer():
    x, y = data(rows=32)
    model = build(regularizer=None)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0, global_clipnorm=1e-3), loss=COMPILE["loss"], balancer="pcgrad")
    model.fit(x, y, batch_size=32, verbose=0)
    moved = np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(before, model.get_weights(), strict=True)))
    assert moved == pytest.approx(1e-3, rel=1e-2)


def test_the_order_of_tasks_changes_nothing():
    x, y = data()
    one = build()
    other = MultiTaskModel(inputs=one.input, outputs={task: one.output[task] for task in reversed(TASKS)})
    start = one.get_weights()
    reversed_first = {key: dict(reversed(value.items())) for key, value in COMPILE.items()}
    one.set_weights(start)
    expected = fitted(one, x, y)
    one.set_weights(start)
    found = fitted(other, x, y, compile_with=reversed_first)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)


def test_the_summary_tells_what_sharing_saves():
    lines: list[str] = []
    build().summary(print_fn=lines.append)
    assert "Shared by two or more tasks: 464" in "\n".join(lines)


def test_messages_name_the_output_and_the_known_ones():
    x, y = data()
    model = build()
    with pytest.raises(ValueError, match=r"loss must name outputs.*\['ctr'\]"):
        model.compile(loss={"ctr": "mse"})
    with pytest.raises(ValueError, match="normalizer must be one of"):
        model.compile(loss="mse", normalizer="mean")
    with pytest.raises(ValueError, match=r"coverage\['output_ctr'\] must be a share"):
        model.compile(loss="mse", coverage={"output_ctr": 2.0})
    model.compile(loss=COMPILE["loss"])
    with pytest.raises(ValueError, match=r"labels must hold every task with a loss. Missing: \['output_category'\]"):
        model.fit(x, {task: y[task] for task in TASKS[:2]}, verbose=0)


@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables")
def test_a_task_without_a_loss_is_only_predicted():
    x, y = data()
    model = build()
    history = fitted(model, x, y, compile_with={"loss": {"output_ctr": "ce", "output_category": "ce"}})
    assert set(history) == {"loss", "output_ctr_loss", "output_category_loss"}
    assert set(model.predict(x, verbose=0)) == set(TASKS)


def test_a_loss_that_is_not_one_value_a_row_is_refused():
    x, y = data()
    model = build(tasks=("output_duration",))
    model.compile(loss={"output_duration": lambda true, predicted: tf.reduce_mean(tf.square(true - predicted))})
    with pytest.raises(ValueError, match="must give one value a row"):
        model.fit(x, {"output_duration": y["output_duration"]}, verbose=0)
