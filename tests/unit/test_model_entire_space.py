"""Losses on the entire space: numbers by hand, gradients, missing labels, tiny probabilities, bias, export."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from onehull.export.parity import run_litert
from onehull.export.scoring import encoded_scorer, litert_model
from onehull.model import MultiTaskModel, build_model, compile_model, parameter_costs
from onehull.model.attached import attach
from onehull.model.build import ancestors
from onehull.model.entire_space import EntireSpaceLoss, Kind
from onehull.model.labels import read_labels
from onehull.spec import validate
from onehull.spec.balance import StaticBalance
from onehull.spec.inputs import ModelInput
from onehull.spec.model import Esmm, SharedBottom
from onehull.spec.tasks import BinaryTask, RegressionTask, Task
from onehull.spec.training import Training

TASKS = {"click": BinaryTask(kind="binary"), "buy": BinaryTask(kind="binary", observed_when="click")}
INPUTS = (ModelInput(name="user", kind="id", rows=20, dim=4), ModelInput(name="age", kind="dense", length=2))
KINDS: tuple[Kind, ...] = ("product", "ips", "dr")
NAN = np.nan


def rows(loss, labels, logits, imputed=None):
    """Losses of rows from logits, as heads give them; the last task owns the loss."""
    predictions = {name: ops.sigmoid(values[:, tf.newaxis]) for name, values in logits.items()}
    task = list(logits)[-1]
    if imputed is not None:
        attach(predictions[task], imputed_loss=imputed[:, tf.newaxis])
    read = {name: read_labels(np.array(y, "float32"), predictions[name], None) for name, y in labels.items()}
    return loss.rows(task, read, predictions)


def logits_of(**probabilities):
    return {name: tf.constant(np.log(p) - np.log1p(-np.array(p)), tf.float32) for name, p in probabilities.items()}


LABELS = {"click": [0, 1, 1, 1, NAN, 0], "buy": [NAN, 0, 1, NAN, 1, 1]}
PREDICTED = logits_of(click=[0.2] * 6, buy=[0.3] * 6)


def test_product_is_the_log_loss_of_the_joint_label_where_it_is_known():
    losses, present = rows(EntireSpaceLoss(["click"]), LABELS, PREDICTED)
    # Outside the space, in it with a label, and without; the last row lies outside whatever its label says.
    np.testing.assert_array_equal(present, [True, True, True, False, False, True])
    no, yes = -np.log(1 - 0.06), -np.log(0.06)
    np.testing.assert_allclose(losses.numpy()[present], [no, no, yes, no], rtol=1e-5)


def test_a_chain_multiplies_all_its_ancestors():
    loss = EntireSpaceLoss(["view", "click"])
    labels = {"view": [0, 1, 1, 1], "click": [NAN, 0, 1, NAN], "buy": [NAN, NAN, 1, NAN]}
    losses, present = rows(loss, labels, logits_of(view=[0.5] * 4, click=[0.2] * 4, buy=[0.3] * 4))
    np.testing.assert_array_equal(present, [True, True, True, False])
    np.testing.assert_allclose(losses.numpy()[:3], [-np.log(0.97), -np.log(0.97), -np.log(0.03)], rtol=1e-5)


def test_ips_weighs_the_space_by_floored_propensities_and_adds_the_product():
    labels = {"click": [0, 1, 1], "buy": [NAN, 0, 1]}
    logits = logits_of(click=[0.2, 0.2, 0.01], buy=[0.3, 0.3, 0.3])
    risk = np.array([0, -np.log(0.7) / 0.2, -np.log(0.3) / 0.05])
    joint = np.array([-np.log(0.94), -np.log(0.94), -np.log(0.003)])
    found, _ = rows(EntireSpaceLoss(["click"], "ips", global_weight=0.0), labels, logits)
    np.testing.assert_allclose(found, risk, rtol=1e-5)
    found, _ = rows(EntireSpaceLoss(["click"], "ips", risk_weight=0.5, global_weight=2.0), labels, logits)
    np.testing.assert_allclose(found, 0.5 * risk + 2 * joint, rtol=1e-5)
    found, _ = rows(EntireSpaceLoss(["click"], "ips", global_weight=0.0, self_normalised=True), labels, logits)
    np.testing.assert_allclose(found, risk * 3 / (1 / 0.2 + 1 / 0.05), rtol=1e-5)


def test_dr_imputes_everywhere_and_corrects_in_the_space():
    labels = {"click": [0, 1, NAN], "buy": [NAN, 1, NAN]}
    loss = EntireSpaceLoss(["click"], "dr", global_weight=0.0)
    imputed = tf.constant([0.4, 0.4, 0.4])
    found, present = rows(loss, labels, logits_of(click=[0.2] * 3, buy=[0.3] * 3), imputed)
    error = -np.log(0.3) - 0.4
    np.testing.assert_array_equal(present, [True, True, False])
    np.testing.assert_allclose(found[:2], [0.4, 0.4 + error / 0.2 + error**2 / 0.2], rtol=1e-5)


def gradients(loss, labels, logits, imputed=None):
    with tf.GradientTape() as tape:
        tape.watch([*logits.values(), *([] if imputed is None else [imputed])])
        losses, present = rows(loss, labels, logits, imputed)
        total = tf.reduce_sum(tf.where(present, losses, 0.0))
    sources = {**logits, **({} if imputed is None else {"imputed": imputed})}
    return {name: None if g is None else g.numpy() for name, g in tape.gradient(total, sources).items()}


def test_the_product_moves_all_factors():
    labels = {"click": [1, 0], "buy": [1, NAN]}
    found = gradients(EntireSpaceLoss(["click"]), labels, logits_of(click=[0.2, 0.2], buy=[0.3, 0.3]))
    # d −log(pq) / dz = −(1 − p), and d −log(1 − pq) / dz = pq (1 − p) / (1 − pq).
    np.testing.assert_allclose(found["click"], [-0.8, 0.06 * 0.8 / 0.94], rtol=1e-5)
    np.testing.assert_allclose(found["buy"], [-0.7, 0.06 * 0.7 / 0.94], rtol=1e-5)


@pytest.mark.parametrize("kind", ["ips", "dr"])
def test_the_risk_does_not_move_the_propensity(kind):
    imputed = tf.constant([0.4] * 6) if kind == "dr" else None
    found = gradients(EntireSpaceLoss(["click"], kind, global_weight=0.0), LABELS, PREDICTED, imputed)
    assert not found["click"].any()
    # Two rows lie in the space with a label; the loss of 0 and of 1 has the gradients p and −(1 − p).
    np.testing.assert_allclose(found["buy"], [0, 0.3 / 0.2, -0.7 / 0.2, 0, 0, 0], rtol=1e-5)
    both = gradients(EntireSpaceLoss(["click"], kind), LABELS, PREDICTED, imputed)
    assert both["click"][[0, 1, 2, 5]].all()
    assert not both["click"][[3, 4]].any()


def test_the_imputation_learns_from_its_error_alone():
    imputed = tf.constant([0.4] * 6)
    found = gradients(EntireSpaceLoss(["click"], "dr"), LABELS, PREDICTED, imputed)
    errors = -np.log([0.7, 0.3]) - 0.4
    np.testing.assert_allclose(found["imputed"], [0, *(-2 * errors / 0.2), 0, 0, 0], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [20.0, 60.0, 500.0])
def test_tiny_probabilities_have_finite_losses_and_gradients(kind, size):
    signs = np.array([(c, b) for c in (-1, 1) for b in (-1, 1)] * 3, "float32") * size
    logits = {"click": tf.constant(signs[:, 0]), "buy": tf.constant(signs[:, 1])}
    labels = {"click": [0.0] * 4 + [1.0] * 8, "buy": [NAN] * 4 + [0.0] * 4 + [1.0] * 4}
    imputed = tf.ones(12) if kind == "dr" else None
    loss = EntireSpaceLoss(["click"], kind)
    assert np.isfinite(rows(loss, labels, logits, imputed).losses_B).all()
    found = gradients(loss, labels, logits, imputed)
    assert all(np.isfinite(gradient).all() for gradient in found.values())
    # Both thought impossible, and both happened: the full gradient, where a clipped probability would have none.
    assert found["click"][8] == pytest.approx(-1.0)
    assert found["buy"][8] < -0.999


def test_missing_labels_have_no_gradient_and_no_nan():
    labels = {"click": [NAN, NAN, 1], "buy": [NAN, 1, NAN]}
    for kind in KINDS:
        imputed = tf.ones(3) if kind == "dr" else None
        logits = logits_of(click=[0.2] * 3, buy=[0.3] * 3)
        for gradient in gradients(EntireSpaceLoss(["click"], kind), labels, logits, imputed).values():
            assert not gradient.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ancestors": []}, "ancestors must name the tasks"),
        ({"ancestors": ["click"], "kind": "esmm"}, "kind must be one of 'product', 'ips', 'dr'. Received 'esmm'"),
        ({"ancestors": ["click"], "propensity_floor": 0.0}, "propensity_floor must be above 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EntireSpaceLoss(**arguments)


def test_what_the_loss_needs_is_said():
    with pytest.raises(ValueError, match=r"needs the labels of its ancestors \['click'\]. Missing: \['click'\]"):
        rows(EntireSpaceLoss(["click"]), {"buy": [1.0]}, logits_of(buy=[0.5]))
    with pytest.raises(ValueError, match="must come straight from WithImputation"):
        rows(EntireSpaceLoss(["click"], "dr"), {"click": [1.0], "buy": [1.0]}, logits_of(click=[0.5], buy=[0.5]))


def feed(count=64, seed=0):
    rng = np.random.default_rng(seed)
    x = {"user": rng.integers(0, 20, count).astype("int32"), "age": rng.normal(size=(count, 2)).astype("float32")}
    click = (rng.uniform(size=count) < 0.4).astype("float32")
    buy = np.where(click == 1, rng.integers(0, 2, count), NAN).astype("float32")
    buy[rng.uniform(size=count) < 0.1] = NAN
    return x, {"click": click, "buy": buy}


def built(section, tasks=None, **options):
    tasks = TASKS if tasks is None else tasks
    model = build_model(section, tasks, INPUTS, seed=1)
    compile_model(model, tasks, StaticBalance(), Training(learning_rate=0.02), section=section, **options)
    model.run_eagerly = True
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_any_architecture_learns_on_all_impressions(kind, tmp_path):
    x, y = feed()
    model = built(SharedBottom(bottom=(8,), tower=(4,), entire_space=kind))
    history = model.fit(x, y, batch_size=64, epochs=8, verbose=0).history
    assert history["buy_loss"][-1] < history["buy_loss"][0]
    assert set(model.predict(x, verbose=0)) == {"click", "buy"}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    found, expected = (m.evaluate(x, y, batch_size=64, return_dict=True, verbose=0) for m in (loaded, model))
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_is_over_rows_with_a_known_joint_label(kind):
    x, y = feed()
    # The share of buy's own labels is no share of the rows that its loss has.
    model = built(Esmm(kind="esmm", tower=(4,), entire_space=kind), coverage={"click": 1.0, "buy": 0.3})
    found = model.evaluate(x, y, batch_size=64, return_dict=True, verbose=0)
    assert found["loss"] == pytest.approx(found["click_loss"] + found["buy_loss"], rel=1e-5)
    if kind == "product":
        scores = {task: values[:, 0].astype("float64") for task, values in model.predict(x, verbose=0).items()}
        joint, label = scores["click"] * scores["buy"], np.where(y["click"] == 1, y["buy"], 0)
        losses = -np.where(label == 1, np.log(joint), np.log(1 - joint))
        assert found["buy_loss"] == pytest.approx(losses[~np.isnan(label)].mean(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_pcgrad_balances_such_losses_in_a_compiled_step(kind):
    x, y = feed()
    section = Esmm(kind="esmm", tower=(4,), entire_space=kind)
    model = build_model(section, TASKS, INPUTS, seed=1)
    loss = {"click": "binary_crossentropy", "buy": EntireSpaceLoss(["click"], kind)}
    model.compile("adam", loss=loss, balancer="pcgrad", jit_compile=False)
    history = model.fit(x, y, batch_size=32, epochs=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert {"click_weight", "buy_weight"} <= set(history)


def test_a_chain_ends_where_a_task_is_not_in_the_model():
    chain: dict[str, Task] = {
        "view": BinaryTask(kind="binary"),
        "click": BinaryTask(kind="binary", observed_when="view"),
        "buy": BinaryTask(kind="binary", observed_when="click"),
        "watch": RegressionTask(kind="regression", observed_when="click"),
    }
    assert ancestors("buy", chain) == ("view", "click")
    assert ancestors("view", chain) == ancestors("watch", chain) == ()
    assert ancestors("buy", {name: chain[name] for name in ("click", "buy")}) == ("click",)
    model = built(Esmm(kind="esmm", tower=(4,), entire_space="dr"), {"buy": chain["buy"]})
    x, y = feed()
    assert np.isfinite(model.fit(x, {"buy": y["buy"]}, verbose=0).history["loss"]).all()


def test_esmm_costs_its_two_towers():
    inputs = (ModelInput(name="x", kind="dense", length=256),)
    costs = parameter_costs(build_model(Esmm(kind="esmm"), TASKS, inputs))
    assert (costs.total, costs.shared) == (82_434, 0)


def test_an_exported_model_has_no_imputation(tmp_path):
    model = built(SharedBottom(bottom=(8,), tower=(4,), entire_space="dr"))
    assert any("imputation_buy" in weight.path for weight in model.weights)
    x, _ = feed(5)
    path = tmp_path / "model.tflite"
    path.write_bytes(litert_model(model, INPUTS))
    light, expected = run_litert(path, x), encoded_scorer(model)(x)
    assert set(light) == {"click", "buy"}
    for task, scores in light.items():
        np.testing.assert_allclose(scores, expected[task], atol=1e-6)
    names = [detail["name"] for detail in Interpreter(model_path=str(path)).get_tensor_details()]
    assert any("tower_buy" in name for name in names)
    assert not any("imputation" in name for name in names)


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def mean_error(kind, seed, chance):
    """Error of the mean predicted P(buy | click) of all impressions, for linear logits fitted by full gradients."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=8000).astype("float32")
    click = (rng.uniform(size=x.size) < sigmoid(-1.5 + 1.5 * x)).astype("float32")
    buy = np.where(click == 1, rng.uniform(size=x.size) < chance(x), NAN).astype("float32")
    weights = tf.Variable(np.zeros((2, 2), "float32"))
    optimizer = keras.optimizers.Adam(0.05)
    loss = None if kind == "naive" else EntireSpaceLoss(["click"], kind, global_weight=0.0)

    def predictions():
        return {name: ops.sigmoid((weights[i, 0] + weights[i, 1] * x)[:, tf.newaxis]) for i, name in enumerate(TASKS)}

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            p = predictions()
            read = {name: read_labels(y, p[name], None) for name, y in (("click", click), ("buy", buy))}
            total = tf.reduce_mean(ops.binary_crossentropy(click[:, None], p["click"]))
            values, present = read["buy"]
            losses = ops.binary_crossentropy(values, p["buy"])[:, 0]
            if loss is not None:
                losses, present = loss.rows("buy", read, p)
            present = tf.cast(present, tf.float32)
            total += tf.reduce_sum(losses * present) / tf.reduce_sum(present)
        optimizer.apply_gradients([(tape.gradient(total, weights), weights)])

    optimizer.build([weights])
    for _ in range(200):
        step()
    return float(predictions()["buy"].numpy().mean() - chance(x).mean())


@pytest.mark.parametrize("seed", range(3))
def test_where_the_model_is_too_simple_propensities_take_the_selection_s_bias_away(seed):
    """A line cannot follow the truth; fitted where clicks are, it is too high where there are none.

    The product is no remedy here: its likelihood looks at the rows with clicks, too (Wang et al., 2022, call it an
    inherent bias of ESMM). `docs/architectures/entire-space.md` says so.
    """

    def chance(x):
        return sigmoid(-1.0 + x - 0.6 * (x**2 - 1))

    naive, product, ips = (mean_error(kind, seed, chance) for kind in ("naive", "product", "ips"))
    assert naive > 0.04
    assert product > naive
    assert abs(ips) < 0.5 * naive


def test_where_the_model_can_be_right_the_product_is_unbiased():
    assert abs(mean_error("product", 0, lambda x: sigmoid(-1.0 + x))) < 0.02


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"kind": "esmm"}, "model.entire_space needs a binary task whose observed_when is a binary task"),
        ({"entire_space": "ips"}, "model.entire_space needs a binary task"),
        ({"entire_space": "product", "propensity_floor": 0}, "model.propensity_floor must be greater than 0"),
    ],
)
def test_a_spec_without_such_a_task_is_refused(model, expected):
    document = {
        "name": "small",
        "data": {"samples": "a.parquet", "split": {"by": "column", "column": "d", "validation": [1], "test": [2]}},
        "features": {"age": {"kind": "numeric"}},
        "tasks": {
            "click": {"kind": "binary", "label": "is_click"},
            "watch": {"kind": "regression", "label": "seconds", "observed_when": "click"},
        },
        "model": model,
    }
    assert any(expected in str(fault) for fault in validate(document)[1])
    document["tasks"]["buy"] = {"kind": "binary", "label": "is_buy", "observed_when": "click"}
    document["model"] = {**model, "propensity_floor": 0.1}
    assert not validate(document)[1]


def test_the_loss_is_an_argument_of_compile_only():
    with pytest.raises(ValueError, match=r"must be used in MultiTaskModel\.compile"):
        EntireSpaceLoss(["click"])(tf.ones((2, 1)), tf.ones((2, 1)))


def test_a_hand_made_model_takes_the_loss_as_any_other():
    x = keras.Input((2,), name="age")
    outputs = {name: keras.layers.Dense(1, "sigmoid", name=name)(x) for name in TASKS}
    model = MultiTaskModel({"age": x}, outputs)
    model.compile("sgd", loss={"click": "bce", "buy": EntireSpaceLoss(["click"])}, run_eagerly=True)
    inputs, labels = feed()
    assert np.isfinite(model.fit({"age": inputs["age"]}, labels, verbose=0).history["buy_loss"]).all()
