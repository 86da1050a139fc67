"""Missing labels in losses and in every standard metric of Keras; what a summed loss is divided by."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from onehull.model.coverage import Coverage
from onehull.model.labels import read_labels, row_weights
from onehull.model.objective import Objective
from onehull.model.task_metrics import TaskMetrics

ARGUMENTS: dict[str, dict[str, object]] = {
    "IoU": {"num_classes": 2, "target_class_ids": [1]},
    "MeanIoU": {"num_classes": 3},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [1]},
    "OneHotMeanIoU": {"num_classes": 3},
    "MeanRelativeError": {"normalizer": 1.0},
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
    "MeanMetricWrapper": {"fn": keras.losses.mean_squared_error},
}
# Correlations along the last axis need more than the one number that a row of a single task holds.
NOT_OF_PREDICTIONS = {"Mean", "Sum", "Metric", "PearsonCorrelation", "ConcordanceCorrelation"}
METRICS = sorted(
    name
    for name, value in vars(keras.metrics).items()
    if inspect.isclass(value) and issubclass(value, keras.metrics.Metric) and name not in NOT_OF_PREDICTIONS
)


def rows_for(name):
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 60)
    softmax = rng.dirichlet(np.ones(3), 60).astype("float32")
    if "Sparse" in name:
        return classes.astype("float32"), softmax
    if "Categorical" in name or "OneHot" in name or name in {"F1Score", "FBetaScore"}:
        return np.eye(3, dtype="float32")[classes], softmax
    labels, scores = rng.integers(0, 2, 60).astype("float32"), rng.uniform(size=(60, 1)).astype("float32")
    return labels, np.round(scores) if name in {"IoU", "MeanIoU"} else scores


@pytest.mark.filterwarnings("ignore:You are passing weight as `float`:UserWarning")
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_sees_labelled_rows_only(name):
    labels, predictions = rows_for(name)
    present = np.arange(60) % 3 > 0
    with_missing = labels.copy()
    with_missing[~present] = np.nan
    metric, expected = (getattr(keras.metrics, name)(**ARGUMENTS.get(name, {})) for _ in range(2))
    masked = TaskMetrics({"task": metric}, {}, {"task": None}, prefixed=False)
    for part in (slice(0, 25), slice(25, 60)):
        scores = tf.constant(predictions[part])
        masked.update_state({"task": with_missing[part]}, {"task": scores}, {})
    kept = labels[present]
    expected.update_state(kept[:, None] if kept.ndim == 1 and predictions.shape[1] == 1 else kept, predictions[present])
    (found,) = masked.result().values()
    np.testing.assert_allclose(found, expected.result(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32", "float16", "bool"])
def test_labels_of_any_dtype(dtype):
    read = read_labels(np.array([0, 1, 1, 0]).astype(dtype), tf.zeros((4, 1)), -1)
    assert read.present_B.numpy().all()
    assert read.values.shape == (4, 1)
    with_sentinel = read_labels(np.array([0, 1, 7, 0]).astype(dtype), tf.zeros((4, 1)), 7)
    assert with_sentinel.present_B.numpy().all() == (dtype == "bool")


def test_a_one_hot_row_is_missing_as_a_whole():
    read = read_labels(np.array([[0, 1, 0], [np.nan, 0, 0]], "float32"), tf.zeros((2, 3)), None)
    assert read.present_B.numpy().tolist() == [True, False]
    assert read.values.numpy().tolist() == [[0, 1, 0], [0, 0, 0]]


def test_the_weight_of_a_row_without_a_label_is_zero_whatever_it_was():
    weights = row_weights(np.array([2.0, np.nan, 3.0]), tf.constant([True, False, True]))
    assert weights.numpy().tolist() == [2, 0, 3]


def objective(normalizer, coverage=None, loss="mse"):
    return Objective({"task": loss}, {}, {"task": None}, normalizer, coverage)


@pytest.mark.parametrize(
    ("normalizer", "expected"), [("coverage", 4 / 2), ("labelled", 4 / 2), ("batch", 4 / 4), ("sum", 4.0)]
)
def test_what_a_summed_loss_is_divided_by(normalizer, expected):
    # Losses of the labelled rows are 1 and 3; two of the four rows have none.
    labels, predictions = [np.nan, 1, np.nan, 0], tf.constant([[9.0], [2.0], [9.0], [3.0**0.5]])
    losses = objective(normalizer)({"task": np.array(labels, "float32")}, {"task": predictions}, {}, training=True)
    np.testing.assert_allclose(losses.stacked(), [expected], rtol=1e-6)


def test_known_coverage_does_not_depend_on_the_batch():
    labels, predictions = np.array([np.nan, 1, np.nan, np.nan], "float32"), tf.constant([[9.0], [2.0], [9.0], [9.0]])
    losses = objective("coverage", {"task": 0.5})({"task": labels}, {"task": predictions}, {}, training=True)
    np.testing.assert_allclose(losses.stacked(), [1 / (4 * 0.5)])


def test_coverage_follows_training_and_stands_still_in_evaluation():
    coverage = Coverage(["a", "b"])
    rows = tf.constant(10.0)
    np.testing.assert_allclose(coverage.share(tf.constant([2.0, 10.0]), rows, training=False), [0.2, 1.0])
    np.testing.assert_allclose(coverage.share(tf.constant([4.0, 10.0]), rows, training=True), [0.4, 1.0])
    np.testing.assert_allclose(coverage.share(tf.constant([0.0, 10.0]), rows, training=False), [0.4, 1.0])
    for _ in range(2000):
        share = coverage.share(tf.constant([1.0, 10.0]), rows, training=True)
    np.testing.assert_allclose(share, [0.1, 1.0], rtol=1e-3)


def test_coverage_makes_the_gradient_independent_of_how_often_a_task_is_labelled():
    # The mean over many batches of Σ m ℓ / (B ρ) is the mean loss, at 2 % and at 100 % of the labels.
    rng = np.random.default_rng(0)
    means = {}
    for share in (0.02, 1.0):
        task, values = objective("coverage", {"task": share}), []
        for _ in range(200):
            labels = np.where(rng.uniform(size=512) < share, 0.0, np.nan).astype("float32")
            predictions = tf.constant(rng.uniform(size=(512, 1)), tf.float32)
            values.append(float(task({"task": labels}, {"task": predictions}, {}, training=True).stacked()[0]))
        means[share] = np.mean(values)
    assert means[0.02] == pytest.approx(means[1.0], rel=0.05)


def test_a_loss_object_keeps_its_own_reduction():
    labels, predictions = np.array([1.0, np.nan, 0.0], "float32"), tf.constant([[2.0], [5.0], [1.0]])
    summed = objective("coverage", loss=keras.losses.MeanSquaredError(reduction="sum"))
    np.testing.assert_allclose(summed({"task": labels}, {"task": predictions}, {}, training=True).stacked(), [2.0])


def test_a_missing_label_has_no_gradient_even_where_the_loss_is_infinite():
    predictions = tf.Variable([[0.0], [1e30], [2.0]])
    with tf.GradientTape() as tape:
        losses = objective("labelled")(
            {"task": np.array([1.0, np.nan, 1.0], "float32")}, {"task": predictions.value()}, {}, training=True
        )
        total = tf.reduce_sum(losses.stacked())
    assert np.isfinite(total)
    np.testing.assert_allclose(tape.gradient(total, predictions), [[-1.0], [0.0], [1.0]])
