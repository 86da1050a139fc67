"""Experts, gates and mixtures, each alone."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter, ValidationError

from onehull.model import build_model
from onehull.model.cross_stitch_unit import CrossStitchUnit
from onehull.model.experts import Experts
from onehull.model.feature_gate import FeatureGate
from onehull.model.gate import Gate
from onehull.model.mixture import Mixture
from onehull.model.own_experts import OwnExperts
from onehull.model.self_gate import SelfGate
from onehull.spec.inputs import ModelInput
from onehull.spec.model import Model
from onehull.spec.tasks import BinaryTask

ADAPTER = TypeAdapter(Model)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 5)).astype("float32")
STACK = RNG.normal(size=(32, 3, 4)).astype("float32")
MIXED = RNG.normal(size=(32, 4)).astype("float32")
NAMES = ("a", "b", "c")


def relu(values):
    return np.maximum(values, 0)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (Experts(NAMES, (6, 4), "gelu", "layer", 0.1, 0.01, level=2, seed=3, name="experts"), X),
        (Experts(NAMES, (4,), "relu", "batch", seed=3, name="experts"), [X, X + 1, X]),
        (Gate(NAMES, "like", (6,), "tanh", 0.2, 0.01, level=2, seed=3, name="gate_like"), X),
        (Mixture([0], name="mixture"), [STACK, STACK[:, :1], STACK[:, 0, :]]),
        (OwnExperts(seed=3, name="own"), [MIXED, STACK]),
        (CrossStitchUnit((0.9, 0.1), name="stitch"), [MIXED, MIXED + 1]),
        (FeatureGate(2, 3, 0.1, seed=3, name="feature_gate"), X),
        (SelfGate(0.1, seed=3, name="self_gate"), [MIXED, STACK, X]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_layer_is_made_again_from_its_config_and_used_alone(layer, inputs):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    outputs = layer(inputs)
    np.testing.assert_array_equal(outputs, again(inputs))  # the seed makes the same variables
    assert again.get_config() == layer.get_config()
    shapes = [part.shape for part in inputs] if isinstance(inputs, list) else inputs.shape
    assert again.compute_output_shape(shapes) == tuple(outputs.shape)


def test_experts_compute_what_dense_layers_would():
    layer = Experts(NAMES, (6, 4), seed=1)
    found = layer(X)
    first, bias_1, second, bias_2 = (weight.numpy() for weight in layer.weights)
    for place in range(3):
        hidden = relu(X @ first[place] + bias_1[place])
        np.testing.assert_allclose(found[:, place], relu(hidden @ second[place] + bias_2[place]), rtol=1e-4, atol=1e-6)


def test_experts_read_one_input_each():
    layer = Experts(NAMES, (4,), seed=1)
    inputs = [X, X + 1, X - 1]
    together = layer(inputs)
    for place, own in enumerate(inputs):
        np.testing.assert_allclose(together[:, place], layer(own)[:, place], rtol=1e-5)


def test_experts_start_apart_and_as_wide_as_a_dense_layer():
    layer = Experts(NAMES, (400,), seed=1)
    layer.build((None, 300))
    kernels = layer.weights[0].numpy()
    assert not np.allclose(kernels[0], kernels[1])
    limit = np.sqrt(6 / 700)  # Glorot's, of one expert
    assert 0.98 * limit < np.abs(kernels).max() <= limit


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_each_expert_is_normalised_by_itself(norm):
    layer = Experts(NAMES, (64,), activation="linear", norm=norm, seed=1)
    layer.build((None, 5))
    kernel = next(weight for weight in layer.weights if weight.name == "kernel_1")
    kernel.assign(kernel * np.array([1, 10, 100], "float32")[:, None, None])
    values = layer(X, training=True).numpy()
    axis = 0 if norm == "batch" else 2
    np.testing.assert_allclose(values.mean(axis), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis), 1, atol=0.05)


def test_running_statistics_are_kept_for_serving():
    layer = Experts(("a", "b"), (4,), activation="linear", norm="batch", seed=1)
    for _ in range(500):
        layer(X, training=True)
    np.testing.assert_allclose(layer(X), layer(X, training=True), atol=0.02)


def test_a_gate_gives_weights_that_sum_to_one_in_float32():
    gate = Gate(NAMES, dtype="mixed_bfloat16", seed=1)
    weights = gate(tf.cast(X, "bfloat16"))
    assert weights.dtype == tf.float32
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), 1, rtol=1e-6)


def test_a_gate_drops_experts_and_scales_the_rest_back():
    gate = Gate(NAMES, dropout=0.5, seed=1)
    x = np.tile(X, (40, 1))
    full, dropped = gate(x).numpy(), gate(x, training=True).numpy()
    kept = dropped > 0
    np.testing.assert_allclose(dropped.sum(1), 1, rtol=1e-5)
    expected = full * kept
    np.testing.assert_allclose(dropped, expected / expected.sum(1, keepdims=True), rtol=1e-4)
    # Each is dropped on half of the rows; where all would be (1 in 8), all stay.
    assert kept.all(1).mean() == pytest.approx(2 / 8, abs=0.05)
    assert kept.mean() == pytest.approx(0.5 + 1 / 8, abs=0.04)
    np.testing.assert_array_equal(gate(x), full)


def test_a_gate_in_doubt_about_nothing_drops_without_dividing_by_zero():
    gate = Gate(("a", "b"), dropout=0.5, seed=1)
    gate.build((None, 1))
    gate.weights[0].assign([[300.0, -300.0]])
    weights = gate(np.ones((200, 1), "float32"), training=True).numpy()
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights.sum(1), 1)
    assert set(weights[:, 0]) == {0.0, 1.0}


def test_a_mixture_is_the_weighted_sum_and_can_pass_forward_only():
    weights = tf.nn.softmax(RNG.normal(size=(32, 5)).astype("float32"))
    own, other = tf.constant(STACK), tf.constant(STACK[:, :2] * 2)
    with tf.GradientTape() as tape:
        tape.watch([own, other, weights])
        mixed = Mixture([1])([own, other, weights])
        gradients = tape.gradient(tf.reduce_sum(mixed), [own, other, weights])
    every = np.concatenate([own, other], axis=1)
    np.testing.assert_allclose(mixed, (weights.numpy()[:, :, None] * every).sum(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients[0][:, :, 0], weights[:, :3])
    assert gradients[1] is None
    np.testing.assert_allclose(gradients[2], every.sum(2), rtol=1e-4, atol=1e-5)


def test_a_single_own_expert_is_added_as_it_is_and_several_by_learned_weights():
    single, several = OwnExperts(seed=1), OwnExperts(seed=1)
    np.testing.assert_allclose(single([MIXED, STACK[:, :1]]), MIXED + STACK[:, 0], rtol=1e-5)
    assert single.weights == []
    found = several([MIXED, STACK])
    (weights,) = several.weights
    assert np.abs(weights.numpy()).max() <= np.sqrt(1 / 3)
    np.testing.assert_allclose(found, MIXED + np.einsum("bmd,m->bd", STACK, weights.numpy()), rtol=1e-4, atol=1e-5)


def test_a_self_gate_is_a_sigmoid_for_one_expert_and_a_softmax_for_several():
    for count in (1, 3):
        layer, own = SelfGate(seed=1), STACK[:, :count]
        found = layer([MIXED, own, X])
        logits = X @ layer.weights[0].numpy()
        shares = 1 / (1 + np.exp(-logits)) if count == 1 else tf.nn.softmax(logits).numpy()
        np.testing.assert_allclose(found, MIXED + np.einsum("bmd,bm->bd", own, shares), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("terms", [1, 2])
def test_a_feature_gate_starts_near_one_and_stays_within_two(terms):
    layer = FeatureGate(4, terms, seed=1)
    wide = RNG.normal(size=(200, 64)).astype("float32")
    factors = layer(wide).numpy() / wide
    assert (factors > 0).all()
    assert (factors < 2).all()
    assert factors.mean() == pytest.approx(1, abs=0.02)
    down, up = layer.weights[0].numpy(), layer.weights[1].numpy()
    by_term = 2 / (1 + np.exp(-(wide @ down) @ up))
    chosen = tf.nn.softmax(wide @ layer.weights[2].numpy()).numpy() if terms > 1 else np.ones((200, 1))
    np.testing.assert_allclose(factors, np.einsum("kbd,bk->bd", by_term, chosen), rtol=2e-3)


def test_a_cross_stitch_unit_starts_at_its_first_weights():
    unit = CrossStitchUnit((0.9, 0.1))
    np.testing.assert_allclose(unit([MIXED, 2 * MIXED]), 1.1 * MIXED, rtol=1e-5)


UNKNOWN: dict[str, Any] = {"norm": "group"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Experts((), (4,), name="e"),
            r"e\.names must name at least one expert.*Received \[\].*own, or a shared",
        ),
        (lambda: Gate((), name="g"), r"g\.names must name at least one expert.*Received \[\]"),
        (lambda: Gate(("a", "a"), name="g"), r"each once\. Received \['a', 'a'\]"),
        (lambda: Experts(("a",), (), name="e"), r"e\.widths must hold the units of at least one layer"),
        (lambda: Experts(("a",), (4,), **UNKNOWN, name="e"), r"e\.norm must be one of none, batch, layer.*'group'"),
        (lambda: CrossStitchUnit((), name="s"), r"s\.first must hold one initial weight a task"),
    ],
)
def test_a_layer_of_nothing_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


TASKS = {name: BinaryTask(kind="binary") for name in ("click", "like", "shared")}
IDS = (ModelInput(name="user", kind="id", rows=20, dim=4), ModelInput(name="age", kind="dense"))
INPUTS = {"user": RNG.integers(0, 20, 32).astype("int32"), "age": RNG.normal(size=(32, 1)).astype("float32")}


def build(kind, tasks=TASKS, **fields):
    levels = {} if kind == "cross_stitch" else {"levels": fields.pop("levels", ((6,),))}
    section = ADAPTER.validate_python({"kind": kind, "tower": (5,), "activation": "tanh", **levels, **fields})
    return build_model(section, tasks, IDS, seed=1)


def reached(model, task):
    """Variables that the task's prediction moves."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(INPUTS)[task])
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    found = zip(model.trainable_variables, gradients, strict=True)
    return {v.path for v, g in found if g is not None and np.abs(tf.convert_to_tensor(g)).max() > 0}


TWO = ((6,), (4,))
OPTIONS = [
    ("mmoe", {"levels": TWO, "gate": (3,), "gate_dropout": 0.3, "expert_norm": "layer"}),
    ("mmoe", {"experts": 1}),
    ("cgc", {"task_experts": 0, "shared_experts": 2, "task_embeddings": True, "expert_norm": "batch"}),
    ("cgc", {"task_experts": 0, "shared_experts": 1, "task_embeddings": True}),
    ("ple", {"levels": TWO, "shared_experts": 0, "task_experts": 2, "gate_dropout": 0.3}),
    ("ple", {"levels": TWO, "task_embeddings": True, "gate": (3,)}),
    ("adatt", {"levels": TWO, "shared_experts": 2, "task_experts": 2, "task_embeddings": True}),
    ("cross_stitch", {"bottom": (6, 4), "task_embeddings": True}),
    ("stem", {"levels": TWO, "shared_experts": 2, "task_experts": 2}),
    ("home", {"levels": TWO, "shared_experts": 2, "task_experts": 2, "feature_gate_rank": 2}),
]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("kind", "fields"), OPTIONS)
def test_no_option_leaves_a_variable_without_a_gradient(kind, fields, count):
    tasks = dict(list(TASKS.items())[:count])
    model = build(kind, tasks, **fields)
    with tf.GradientTape() as tape:
        outputs = model(INPUTS, training=True)
        loss = tf.add_n([tf.reduce_sum(outputs[task] * X[:, :1]) for task in tasks])
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.path


@pytest.mark.parametrize("kind", ["cgc", "ple"])
def test_a_task_without_any_expert_is_refused_in_the_spec_and_in_the_function(kind):
    with pytest.raises(ValidationError, match="must be at least 1 where shared_experts is 0"):
        ADAPTER.validate_python({"kind": kind, "shared_experts": 0, "task_experts": 0})
    section = ADAPTER.validate_python({"kind": kind}).model_copy(update={"shared_experts": 0, "task_experts": 0})
    with pytest.raises(ValueError, match=r"names must name at least one expert, each once\. Received \[\]"):
        build_model(section, TASKS, IDS)


def test_cgc_has_one_level():
    with pytest.raises(ValidationError, match="at most 1 item"):
        ADAPTER.validate_python({"kind": "cgc", "levels": ((4,), (4,))})


@pytest.mark.parametrize("levels", [((6,),), ((6,), (4,))])
def test_stem_trains_a_tasks_tables_from_its_labels_alone(levels):
    paths = reached(build("stem", levels=levels), "click")
    assert any("embeddings_click" in path for path in paths)
    assert any("experts_shared__1" in path for path in paths)  # "shared" is a task here
    own = ("embeddings_like", "experts_like", "embeddings_shared/", "experts_shared_1", "gate_like", "tower_like")
    assert not [path for path in paths if any(name in path for name in own)]


def test_tasks_read_what_the_architecture_says():
    reads = {kind: reached(build(kind), "click") for kind in ("mmoe", "cgc", "adatt")}
    assert not any("experts_like" in path for path in reads["cgc"])
    assert any("experts_like" in path for path in reads["adatt"])
    assert all(not any("gate_like" in path for path in paths) for paths in reads.values())


@pytest.mark.parametrize("kind", ["cgc", "ple", "adatt", "cross_stitch"])
def test_tables_of_a_task_are_read_where_asked_for(kind):
    tables = [layer.name for layer in build(kind, task_embeddings=True).layers if layer.name.startswith("embeddings_")]
    assert sorted(tables) == ["embeddings_click", "embeddings_like", "embeddings_shared"]


def test_a_stream_between_levels_reaches_every_task():
    paths = reached(build("ple", levels=((6,), (4,))), "click")
    assert any("gate_shared__1" in path for path in paths)
    assert any("experts_like_1" in path for path in paths)  # through the shared gate
    assert not any("experts_like_2" in path for path in paths)


def test_the_groups_of_home_decide_who_reads_what():
    groups = {"view": ("click",), "act": ("like", "shared")}
    paths = reached(build("home", levels=((6,), (4,)), groups=groups), "click")
    assert any("experts_group_view_2" in path for path in paths)
    assert not any("experts_group_act_2" in path for path in paths)
    assert any("experts_group_act_1" in path for path in paths)  # through the shared stream


def test_a_model_of_one_task_takes_the_groups_of_all():
    groups = {"view": ("click",), "act": ("like", "shared")}
    alone = build("home", {"like": TASKS["like"]}, levels=((6,), (4,)), groups=groups)
    assert not any("view" in layer.name for layer in alone.layers)


@pytest.mark.parametrize("groups", [{"view": ("click",)}, {"a": ("click", "like"), "b": ("like", "shared")}])
def test_groups_hold_every_task_once(groups):
    with pytest.raises(ValueError, match=r"model\.groups must name every task once.*Tasks: click, like, shared"):
        build("home", levels=((6,), (4,)), groups=groups)


def test_gates_keep_the_names_for_reports():
    gates = {layer.task: layer for layer in build("cgc").layers if isinstance(layer, Gate)}
    assert gates["click"].names == ("click_1", "shared__1")
    assert gates["shared"].names == ("shared_1", "shared__1")
