"""What every architecture owes, whatever is in it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from onehull.balance import BALANCERS
from onehull.model import ARCHITECTURES, MultiTaskModel, build_model, compile_model, parameter_costs
from onehull.spec.balance import Balance
from onehull.spec.inputs import ModelInput
from onehull.spec.model import Model, SharedBottom
from onehull.spec.tasks import BinaryTask, MulticlassTask, RegressionTask
from onehull.spec.training import Training

ADAPTER, BALANCE_ADAPTER = TypeAdapter(Model), TypeAdapter(Balance)
INPUTS = (
    ModelInput(name="user_id", kind="id", rows=40, dim=4),
    ModelInput(name="tags", kind="ids", rows=12, length=3),
    ModelInput(name="age", kind="dense", length=2),
)
TASKS = {
    "click": BinaryTask(kind="binary"),
    "watch": RegressionTask(kind="regression", transform="log1p", loss="huber"),
    "buy": BinaryTask(kind="binary", observed_when="click"),
    "category": MulticlassTask(kind="multiclass", classes=4, tower=(6, 5)),
}
SMALL = {
    "embedding_dim": 4, "bottom": (12, 8), "tower": (5,), "dropout": 0.1, "tower_dropout": 0.1, "batch_norm": True,
    "l2": 1e-4, "embedding_l2": 1e-4, "gate_dropout": 0.1,
}  # fmt: skip
"""Fields that are made small, or switched on, where a kind has them."""


def section(kind, **changes):
    """A small section of any kind in the registry."""
    fields = ADAPTER.validate_python({"kind": kind}).model_dump()
    small = {name: value for name, value in SMALL.items() if name in fields}
    if "levels" in fields:
        small["levels"] = ((8,),) * len(fields["levels"])
    return ADAPTER.validate_python({"kind": kind, **small, **changes})


def balance(kind):
    return BALANCE_ADAPTER.validate_python({"kind": kind})


KINDS = sorted(ARCHITECTURES)


def rows(tasks, count=64, seed=0, missing=0.3):
    rng = np.random.default_rng(seed)
    x = {
        "user_id": rng.integers(0, 40, count).astype("int32"),
        "tags": rng.integers(0, 12, (count, 3)).astype("int32"),
        "age": rng.normal(size=(count, 2)).astype("float32"),
    }
    high = {"binary": 2, "multiclass": 4, "regression": 30}
    y = {name: rng.integers(0, high[task.kind], count).astype("float32") for name, task in tasks.items()}
    for values in y.values():
        values[rng.uniform(size=count) < missing] = np.nan
    return x, y


def build(kind, tasks=None, method="static", **changes):
    tasks = TASKS if tasks is None else tasks
    chosen = section(kind, **changes)
    model = build_model(chosen, tasks, INPUTS, priors={"click": 0.2}, seed=1)
    compile_model(model, tasks, balance(method), Training(), section=chosen)
    model.run_eagerly = True
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_named_by_the_tasks_and_have_their_shapes(kind):
    scores = build(kind).predict(rows(TASKS)[0], verbose=0)
    assert {task: value.shape for task, value in scores.items()} == {
        "click": (64, 1), "watch": (64, 1), "buy": (64, 1), "category": (64, 4),
    }  # fmt: skip
    assert all(value.dtype == np.float32 for value in scores.values())
    assert ((scores["click"] > 0) & (scores["click"] < 1)).all()
    np.testing.assert_allclose(scores["category"].sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_trainable_variable_gets_a_gradient(kind):
    model = build(kind)
    x, y = rows(TASKS, missing=0)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(y=y, y_pred=model(x, training=True))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.path


@pytest.mark.parametrize(
    ("kind", "method"),
    sorted({*((kind, m) for kind in KINDS for m in ("static", "pcgrad")), *(("shared_bottom", m) for m in BALANCERS)}),
)
def test_it_trains_on_missing_labels(kind, method):
    calm = {
        name: 0.0 for name in ("dropout", "tower_dropout", "gate_dropout") if name in section(kind).model_fields_set
    }
    model = build(kind, method=method, **calm)
    model.optimizer.learning_rate = 0.01
    x, y = rows(TASKS)
    history = model.fit(x, y, batch_size=32, epochs=8, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    progress = [history[f"{task}_loss"][-1] / history[f"{task}_loss"][0] for task in TASKS]
    # A method may hold a task back for another one; together they get better.
    assert np.mean(progress) < 1
    if method in ("static", "pcgrad"):
        assert max(progress) < 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_loaded_as_it_was(kind, tmp_path):
    model = build(kind, method="pcgrad")
    x, y = rows(TASKS)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, MultiTaskModel)
    # A compiled graph fuses operations, and then differs from an eager model in the last bit.
    loaded.run_eagerly = True
    for task, scores in model.predict(x, verbose=0).items():
        np.testing.assert_array_equal(loaded.predict(x, verbose=0)[task], scores)


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_predicts_in_float32(kind):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build(kind, method="pcgrad")
    finally:
        keras.mixed_precision.set_global_policy("float32")
    x, y = rows(TASKS)
    history = model.fit(x, y, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all(value.dtype == np.float32 for value in model.predict(x, verbose=0).values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["static", "pcgrad"])
def test_the_step_is_traced_once(kind, method):
    model = build(kind, method=method)
    model.run_eagerly, traces, original = False, [], model.train_step

    def counted(batch):
        traces.append(1)
        return original(batch)

    model.train_step = counted
    dataset = tf.data.Dataset.from_tensor_slices(rows(TASKS, count=70)).batch(32)
    model.fit(dataset, epochs=2, shuffle=False, verbose=0)
    assert len(traces) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 12])
def test_one_task_and_twelve(kind, count):
    tasks = {f"t{index}": BinaryTask(kind="binary") for index in range(count)}
    model = build(kind, tasks, "pcgrad")
    x, y = rows(tasks)
    history = model.fit(x, y, verbose=0).history
    assert {f"t{index}_loss" for index in range(count)} <= set(history)
    assert set(model.predict(x, verbose=0)) == set(tasks)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_tasks_changes_no_prediction(kind):
    x, _ = rows(TASKS)
    # Where the order is part of the architecture, the section names it; the order of the spec's keys says nothing then.
    changes = {"order": tuple(TASKS)} if "order" in type(section(kind)).model_fields else {}
    scores = build(kind, **changes).predict(x, verbose=0)
    turned = build(kind, dict(reversed(TASKS.items())), **changes).predict(x, verbose=0)
    for task, value in scores.items():
        np.testing.assert_array_equal(turned[task], value)


@pytest.mark.parametrize("kind", KINDS)
def test_gates_start_at_one_and_train_in_every_architecture(kind):
    x, y = rows(TASKS)
    quiet = {"dropout": 0.0, "tower_dropout": 0.0}
    gates = {"epnet": {"features": ["tags"]}, "ppnet": {"features": ["user_id", "age"]}}
    plain, gated = build(kind, **quiet), build(kind, method="pcgrad", **quiet, **gates)
    for task, scores in plain.predict(x, verbose=0).items():
        np.testing.assert_allclose(gated.predict(x, verbose=0)[task], scores, rtol=1e-5, atol=1e-6)
    history = gated.fit(x, y, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    # A gate's first kernel has no gradient until the last one, which starts at 0, has moved.
    with tf.GradientTape() as tape:
        loss = gated.compute_loss(y=y, y_pred=gated(x, training=True))
    variables = [variable for variable in gated.trainable_variables if "gate_" in variable.path]
    assert variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.path


def test_sharing_depth_counts_shared_layers_from_the_input():
    embeddings = 40 * 4 + 12 * 4
    first, second = 10 * 12 + 12, 12 * 8 + 8
    shared = {0: 0, 1: embeddings, 2: embeddings + first, 3: embeddings + first + second, None: 0}
    shared[None] = shared[3]
    for depth, expected in shared.items():
        costs = parameter_costs(build("shared_bottom", sharing_depth=depth, batch_norm=False))
        assert costs.shared == expected
        # The models of all depths compute the same; independent ones cost the same everywhere.
        assert costs.independent == parameter_costs(build("shared_bottom", sharing_depth=0, batch_norm=False)).total


def test_at_depth_zero_no_variable_is_shared():
    model = build("shared_bottom", sharing_depth=0, l2=0.0, embedding_l2=0.0)
    x, y = rows(TASKS)
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    model.fit(x, {**y, **dict.fromkeys(("watch", "buy", "category"), np.full(64, np.nan))}, verbose=0)
    moved = {v.path for v in model.trainable_variables if not np.array_equal(before[v.path], v.numpy())}
    assert moved
    assert not [path for path in moved if any(task in path for task in ("watch", "buy", "category"))]


def test_layer_names_are_readable_and_give_way_to_features_and_tasks():
    tasks = {"shared_1": BinaryTask(kind="binary"), "like": BinaryTask(kind="binary")}
    inputs = (ModelInput(name="embeddings", kind="dense"), *INPUTS)
    names = {layer.name for layer in build_model(SharedBottom(bottom=(4,)), tasks, inputs, seed=0).layers}
    assert {"shared_1", "shared_1_", "embeddings", "embeddings_", "like", "tower_like", "user_id"} <= names
