"""Heads of durations: hand numbers, calibration, monotony, and that they live through every way of training."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from pydantic import TypeAdapter, ValidationError

from onehull.export.scoring import encoded_scorer, encoded_signature, litert_model
from onehull.model import ARCHITECTURES, build_model, compile_model
from onehull.model.attached import attach
from onehull.model.duration import (
    HEADS,
    CreadHead,
    CreadLoss,
    D2qHead,
    D2qLoss,
    Log1pHead,
    PinballLoss,
    QuantileHead,
    SmearedLoss,
    WlrHead,
    WlrLoss,
)
from onehull.model.duration.cread import cread_head
from onehull.model.duration.d2q import level_of, quantile_at
from onehull.model.duration.quantile import quantile_head, trapezoid_weights
from onehull.model.heads import logit
from onehull.model.labels import Labels
from onehull.records.distribution import LabelSample
from onehull.spec.balance import Balance, StaticBalance
from onehull.spec.inputs import ModelInput
from onehull.spec.labels import LabelDistribution
from onehull.spec.model import Model, SharedBottom
from onehull.spec.tasks import BinaryTask, RegressionTask, Task
from onehull.spec.training import Training

INPUTS = (ModelInput(name="age", kind="dense", length=3), ModelInput(name="duration", kind="id", rows=12, dim=4))
KINDS = sorted(HEADS)


def rows(count: int = 600, seed: int = 0):
    """Durations that are log-normal given the inputs, a tenth of them 0 and a fifth missing; and a click."""
    random = np.random.default_rng(seed)
    age = random.normal(size=(count, 3)).astype("float32")
    duration = random.integers(1, 12, count).astype("int32")
    watch = np.exp(1 + 0.5 * age[:, 0] + 0.07 * duration + random.normal(size=count)).astype("float32")
    watch[random.uniform(size=count) < 0.1] = 0
    watch[random.uniform(size=count) < 0.2] = np.nan
    return {"age": age, "duration": duration}, {"click": (age[:, 1] > 0).astype("float32"), "watch": watch}


def labels_of(x, watch, feature: str | None = "duration") -> LabelDistribution:
    sample = LabelSample("watch", feature)
    sample.add(x, watch, np.ones(len(watch), bool))
    found = sample.distribution()
    assert found is not None
    return found


def tasks_of(kind: str) -> dict[str, Task]:
    watch = RegressionTask.model_validate({"kind": "regression", "duration": "duration", "head": {"kind": kind}})
    return {"click": BinaryTask(kind="binary"), "watch": watch}


def built(kind: str, labels: LabelDistribution, method: str = "static", learning_rate: float = 0.01):
    model = build_model(SharedBottom(bottom=(8,), tower=(4,)), tasks_of(kind), INPUTS, priors={"watch": labels}, seed=1)
    balance = TypeAdapter(Balance).validate_python({"kind": method})
    compile_model(model, tasks_of(kind), balance, Training(learning_rate=learning_rate))
    return model


def constant_of(values: list[float], **attached: object) -> tf.Tensor:
    return attach(tf.constant([values]), **attached)


def bias_only(head, biases: list[float], width: int = 1) -> tf.Tensor:
    """What a head predicts for one row whose representation is 0."""
    head.build((None, width))
    head.trainable_variables[1].assign(biases)
    return head(np.zeros((1, width), "float32"))


# ── hand numbers ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_smearing_undoes_the_bias_of_the_geometric_mean():
    watch = np.array([0.0, 10.0, 100.0])
    prior = float(np.log1p(watch).mean())
    assert math.expm1(prior) == pytest.approx(9.357096, abs=1e-6)
    residuals = np.exp(np.log1p(watch) - prior)
    assert residuals.mean() == pytest.approx(3.636798, abs=1e-6)
    head = Log1pHead(prior, float(residuals.mean()))
    assert float(head(np.zeros((1, 2), "float32"))[0, 0]) == pytest.approx(watch.mean(), rel=1e-5)


def test_the_smearing_factor_follows_labelled_rows_in_training_only():
    head, loss = Log1pHead(0.0, 2.0), SmearedLoss(decay=0.9)
    hidden, watch = np.zeros((3, 2), "float32"), tf.constant([[1.0], [5.0], [0.0]])
    present = tf.constant([True, True, False])
    prediction = head(hidden, training=False)
    found = loss.rows("watch", {"watch": Labels(watch, present)}, {"watch": prediction})
    np.testing.assert_allclose(found.losses_B[:2], np.log([2.0, 6.0]) ** 2, rtol=1e-6)
    assert float(head.non_trainable_variables[0]) == 2.0
    loss.rows("watch", {"watch": Labels(watch, present)}, {"watch": head(hidden, training=True)})
    assert float(head.non_trainable_variables[0]) == pytest.approx(0.9 * 2 + 0.1 * (2 + 6) / 2)
    absent = Labels(watch, tf.constant([False] * 3))
    loss.rows("watch", {"watch": absent}, {"watch": head(hidden, training=True)})
    assert float(head.non_trainable_variables[0]) == pytest.approx(2.2)


def test_odds_of_weighted_logistic_regression_are_the_mean():
    # The minimum of the loss over z, for durations 0, 4 and 20 of the same features, is at exp(z) = 8.
    watch = np.array([[0.0], [4.0], [20.0]], "float32")
    z = np.linspace(0, 4, 4001, dtype="float32")
    losses = [WlrLoss(reduction="sum")(watch, constant_of([v], logits=tf.fill((3, 1), v), scale=1.0)) for v in z[::40]]
    assert np.exp(z[::40][int(np.argmin(losses))]) == pytest.approx(8, rel=0.03)
    prediction = bias_only(WlrHead(scale=4.0), [math.log(2.0)])
    assert float(prediction[0, 0]) == pytest.approx(8)
    value = WlrLoss()(np.array([[8.0]], "float32"), prediction)
    assert float(value) == pytest.approx(3 * math.log(3.0) - 2 * math.log(2.0), rel=1e-5)


def test_cread_restores_the_sum_of_exceeded_thresholds():
    head = CreadHead([0.0, 5.0, 15.0, 40.0], [5.0, 10.0, 25.0, 60.0])
    prediction = bias_only(head, [logit(share) for share in (0.9, 0.6, 0.3, 0.05)])
    assert float(prediction[0, 0]) == pytest.approx(21.0, rel=1e-5)
    entropy = -np.log([0.9, 0.6, 0.7, 0.95]).mean()  # 10 seconds exceed 0 and 5
    found = CreadLoss(restoration=0.0, order=0.0)(np.array([[10.0]], "float32"), prediction)
    assert float(found) == pytest.approx(entropy, rel=1e-5)
    found = CreadLoss(restoration=2.0, order=0.0)(np.array([[10.0]], "float32"), prediction)
    assert float(found) == pytest.approx(entropy + 2 * 11.0**2, rel=1e-5)


def test_cread_punishes_probabilities_that_rise():
    shares = bias_only(CreadHead([0.0, 5.0, 15.0], [5.0, 10.0, 25.0]), [logit(share) for share in (0.5, 0.8, 0.6)])
    label = np.array([[10.0]], "float32")
    difference = CreadLoss(order=3.0)(label, shares) - CreadLoss(order=0.0)(label, shares)
    assert float(difference) == pytest.approx(3 * 0.3, rel=1e-4)


def test_the_pinball_loss_is_that_of_the_levels():
    quantiles = tf.constant([[6.0, 9.0, 14.0]])
    prediction = constant_of([9.0], quantiles=quantiles, levels=tf.constant([0.25, 0.5, 0.75]), scale=1.0)
    assert float(PinballLoss()(np.array([[10.0]], "float32"), prediction)) == pytest.approx(2.5 / 3)


def test_the_expectation_is_a_trapezoidal_sum():
    weights = trapezoid_weights(np.array([0.25, 0.5, 0.75]))
    np.testing.assert_allclose(weights, [0.375, 0.25, 0.375])
    prediction = bias_only(QuantileHead([0.25, 0.5, 0.75], [6, 3, 5], weights.tolist()), [0.5413248546] * 3)
    assert float(prediction[0, 0]) == pytest.approx(0.375 * 6 + 0.25 * 9 + 0.375 * 14, rel=1e-5)


def test_levels_and_quantiles_are_inverse_and_equal_labels_share_the_middle():
    quantiles = tf.constant([[0.0, 0.0, 0.0, 6.0, 10.0]])
    for level, label in [(0.5, 0.0), (0.625, 3.0), (0.75, 6.0), (1.0, 10.0)]:
        assert float(quantile_at(quantiles, tf.constant([[level]]))[0, 0]) == pytest.approx(label, abs=1e-6)
    for label, level in [(0.0, 0.25), (3.0, 0.625), (6.0, 0.75), (10.0, 1.0), (99.0, 1.0), (-1.0, 0.0)]:
        assert float(level_of(quantiles, tf.constant([[label]]))[0, 0]) == pytest.approx(level, abs=1e-6)
    prediction = constant_of([3.0], level=tf.constant([[0.5]]), quantiles=quantiles)
    assert float(D2qLoss()(np.array([[6.0]], "float32"), prediction)) == pytest.approx(12 * 0.25**2)


# ── what must hold for any weights ──────────────────────────────────────────────────────────────────────────────────


def test_d2q_rises_with_the_level_and_has_no_jump_in_the_duration():
    head = D2qHead([[0, 1, 2], [0, 4, 9], [5, 6, 50]], [1.0, 4.0, 5.0])
    head.build([(None, 1), (None, 1)])
    head.trainable_variables[0].assign([[1.0]])
    durations = np.linspace(0, 6, 121, dtype="float32")
    grid = np.stack(
        [head([np.full((121, 1), z, "float32"), durations[:, None]]).numpy().ravel() for z in np.linspace(-6, 6, 49)]
    )
    assert (np.diff(grid, axis=0) >= -1e-5).all()
    # A step of 1/20 in the duration moves a prediction by at most 1/20 of the steepest slope, 41 seconds a unit.
    assert np.abs(np.diff(grid, axis=1)).max() <= 41 / 20 + 1e-3
    assert grid[-1, 0] == pytest.approx(2, abs=0.02)
    assert grid[-1, -1] == pytest.approx(50, abs=0.3)


def test_quantiles_never_cross():
    head = QuantileHead([(level + 1) / 9 for level in range(8)], [0.5] * 8, [0.125] * 8)
    head.build((None, 4))
    hidden = np.random.default_rng(0).normal(scale=30, size=(500, 4)).astype("float32")
    quantiles = head(hidden)._onehull_attached["quantiles"].numpy()
    assert (quantiles >= 0).all()
    assert (np.diff(quantiles, axis=1) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_and_gradients_are_finite_at_the_extremes(kind):
    x, y = rows()
    make, loss = HEADS[kind]
    head, loss = make(labels_of(x, y["watch"], None), name="watch", seed=0), loss()
    head.build((None, 1))
    head.trainable_variables[0].assign(tf.ones_like(head.trainable_variables[0]))
    z = tf.constant([[-1e4], [-40.0], [0.0], [40.0], [1e4]])
    for label in (0.0, 1e-3, 1e5):
        with tf.GradientTape() as tape:
            tape.watch(z)
            prediction = head(z)
            read = Labels(tf.fill((5, 1), label), tf.fill((5,), True))
            value = (
                loss.rows("watch", {"watch": read}, {"watch": prediction}).losses_B
                if isinstance(loss, SmearedLoss)
                else loss(read.values, prediction)
            )
        assert np.isfinite(prediction).all()
        assert (prediction.numpy() >= 0).all()
        assert np.isfinite(tape.gradient(value, z)).all()


@pytest.mark.parametrize("kind", ["log1p", "wlr", "cread", "quantile"])
def test_a_fresh_head_predicts_the_mean(kind):
    x, y = rows(4000)
    head = HEADS[kind].head(labels_of(x, y["watch"]), name="watch", seed=0)
    assert float(head(np.zeros((1, 4), "float32"))[0, 0]) == pytest.approx(np.nanmean(y["watch"]), rel=0.01)


def test_thresholds_of_cread_lie_among_the_labels():
    x, y = rows(4000)
    labels = labels_of(x, y["watch"])
    even, tail = (cread_head(labels, name="watch", seed=0, thresholds=16, tail=tail) for tail in (0.0, 3.0))
    known = y["watch"][~np.isnan(y["watch"])]
    shares = [(known > threshold).mean() for threshold in even.thresholds]
    assert even.shares == pytest.approx(shares, abs=0.01)
    assert even.thresholds[0] == tail.thresholds[0] == 0
    assert even.thresholds[8] < tail.thresholds[8]
    assert (np.diff(even.thresholds) > 0).all()


def test_labels_that_are_all_equal_are_learned_from():
    for value in (0.0, 7.0):
        labels = LabelDistribution(mean=value, mean_log1p=math.log1p(value), quantiles=(value,) * 9)
        for kind in KINDS:
            prediction = HEADS[kind].head(labels, name="watch", seed=0)(np.zeros((1, 2), "float32"))
            assert np.isfinite(prediction).all()


# ── in a model ──────────────────────────────────────────────────────────────────────────────────────────────────────


def all_heads(x, y, method: str = "static"):
    """A model with every head on the same labels, and those labels: one compilation for all of them."""
    tasks = {"click": BinaryTask(kind="binary"), **{f"watch_{kind}": tasks_of(kind)["watch"] for kind in KINDS}}
    labels = labels_of(x, y["watch"])
    priors = {name: labels for name in tasks if name != "click"}
    model = build_model(SharedBottom(bottom=(8,), tower=(4,)), tasks, INPUTS, priors=priors, seed=1)
    balance = TypeAdapter(Balance).validate_python({"kind": method})
    compile_model(model, tasks, balance, Training(learning_rate=0.01))
    return model, {name: y["watch" if name.startswith("watch") else name] for name in tasks}


def test_all_heads_train_under_pcgrad_and_xla_on_missing_labels_and_are_saved(tmp_path):
    x, y = rows()
    model, labels = all_heads(x, y, "pcgrad")
    model.jit_compile = True
    history = model.fit(x, labels, batch_size=200, epochs=8, verbose=0).history
    for kind in KINDS:
        losses = history[f"watch_{kind}_loss"]
        assert np.isfinite(losses).all()
        assert losses[-1] < losses[0], kind
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    model.run_eagerly = loaded.run_eagerly = True
    weights = dict.fromkeys(labels, np.ones(600))
    ours, theirs = (m.evaluate(x, labels, sample_weight=weights, verbose=0, return_dict=True) for m in (model, loaded))
    for task in labels:  # the total also depends on the moving coverage, which starts anew
        assert theirs[f"{task}_loss"] == pytest.approx(ours[f"{task}_loss"], rel=1e-5)
    for task, predicted in model(x).items():
        assert predicted.dtype == tf.float32
        assert predicted.shape == (600, 1)
        np.testing.assert_array_equal(loaded(x)[task], predicted)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_architecture_hands_predictions_to_the_loss_as_the_head_made_them(architecture):
    x, y = rows(50)
    model = build_model(
        TypeAdapter(Model).validate_python({"kind": architecture, "embedding_dim": 4}),
        tasks_of("cread"),
        INPUTS,
        priors={"watch": labels_of(x, y["watch"])},
    )
    compile_model(model, tasks_of("cread"), StaticBalance(), Training())
    totals, _ = model.loss_totals(y, model(x))
    assert np.isfinite(totals).all()


def test_exported_forms_agree(tmp_path):
    x, y = rows(200)
    model, _ = all_heads(x, y)
    expected = {task: values.numpy().ravel() for task, values in model(x).items()}
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", encoded_scorer(model), input_signature=[encoded_signature(INPUTS)])
    archive.write_out(str(tmp_path / "saved"), verbose=False)
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    light = Interpreter(model_content=litert_model(model, INPUTS)).get_signature_runner("serving_default")
    for scores in (saved.serve(x), light(**x)):
        for task, values in expected.items():
            np.testing.assert_allclose(scores[task], values, atol=1e-4)


@pytest.mark.parametrize("kind", ["log1p", "wlr"])
def test_the_sum_of_predictions_is_that_of_log_normal_durations(kind):
    x, y = rows(6000)
    keras.utils.set_random_seed(0)  # of the order of the rows
    model = built(kind, labels_of(x, y["watch"]), learning_rate=0.003)
    model.fit(x, y, batch_size=500, epochs=15, verbose=0)
    known = ~np.isnan(y["watch"])
    predicted = model.predict(x, verbose=0)["watch"].ravel()[known]
    assert predicted.sum() / y["watch"][known].sum() == pytest.approx(1, abs=0.07)


def test_a_missing_label_changes_nothing():
    x, y = rows(200)
    labels = labels_of(x, y["watch"])
    few = {name: values[:100] for name, values in x.items()}
    hidden = {name: np.where(np.arange(200) < 100, values, np.nan) for name, values in y.items()}
    for kind in KINDS:
        model = built(kind, labels)
        totals, counts = model.loss_totals(hidden, model(x))
        expected, number = model.loss_totals({name: values[:100] for name, values in y.items()}, model(few))
        np.testing.assert_allclose(totals, expected, rtol=1e-5)
        np.testing.assert_array_equal(counts, number)


# ── bad input ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_head_needs_labels_that_are_not_negative():
    with pytest.raises(ValueError, match=r"priors\['watch'\] must know the distribution"):
        build_model(SharedBottom(), tasks_of("cread"), INPUTS)
    negative = LabelDistribution(mean=1.0, mean_log1p=None, quantiles=(-3.0, 0.0, 5.0))
    with pytest.raises(ValueError, match=r"labels of task 'watch' must not be negative.*-3"):
        build_model(SharedBottom(), tasks_of("wlr"), INPUTS, priors={"watch": negative})


def test_a_loss_says_which_head_it_belongs_to():
    with pytest.raises(ValueError, match="must come straight from WlrHead"):
        WlrLoss()(np.array([[1.0]], "float32"), tf.constant([[1.0]]))


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"as many as thresholds\. Received 1 and 2"):
        CreadHead([0.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="must be as many"):
        QuantileHead([0.5], [1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match=r"a row for each of 2 groups\. Received 1"):
        D2qHead([[0.0, 1.0]], [1.0, 2.0])


def test_a_scale_and_a_loss_belong_to_the_linear_head():
    with pytest.raises(ValidationError, match="must be linear where transform, loss is given"):
        RegressionTask.model_validate(
            {"kind": "regression", "transform": "log1p", "loss": "huber", "head": {"kind": "wlr"}}
        )


def test_quantile_heads_of_few_levels_start_at_the_mean():
    labels = LabelDistribution(mean=5.0, mean_log1p=1.0, quantiles=(0.0, 1.0, 2.0, 4.0, 40.0))
    head = quantile_head(labels, name="watch", seed=0, levels=2)
    assert float(head(np.zeros((1, 2), "float32"))[0, 0]) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, "linear"),
        ({"duration": "length"}, "wlr"),
        ({"duration": "length", "transform": "log1p"}, "linear"),
        ({"duration": "length", "loss": "mse"}, "linear"),
        ({"duration": "length", "head": {"kind": "cread"}}, "cread"),
    ],
)
def test_a_task_that_names_its_duration_is_watch_time_unless_it_says_otherwise(fields, kind):
    task = RegressionTask.model_validate({"kind": "regression", **fields})
    assert task.head.kind == kind
    assert RegressionTask.model_validate(task.model_dump()) == task
