from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

import onehull.metrics as room
from onehull.errors import DataError
from onehull.metrics import (
    accuracy,
    auc,
    calibration_curve,
    ece,
    gauc,
    log_loss,
    mae,
    multiclass_accuracy,
    multiclass_auc,
    multiclass_log_loss,
    normalized_entropy,
    pcoc,
    relative_gain,
    rmse,
    task_metrics,
)

NAN = float("nan")
Rows = list[tuple[float, float]]
_binary_rows = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, NAN]), st.integers(1, 19).map(lambda i: i / 20)), min_size=1, max_size=60
)
_value_rows = st.lists(st.tuples(st.sampled_from([0.0, 2.5, 40.0, NAN]), st.floats(-100, 100)), min_size=1, max_size=60)


def _columns(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, predictions = np.array(rows, dtype=np.float64).T
    return labels, predictions, ~np.isnan(labels)


@given(_binary_rows)
@settings(max_examples=200, deadline=None)
def test_binary_metrics_equal_scikit_learn_on_the_labelled_rows(rows: Rows) -> None:
    labels, p, present = _columns(rows)
    if not present.any():
        assert log_loss(labels, p) is accuracy(labels, p) is pcoc(labels, p) is ece(labels, p) is None
        return
    y, q = labels[present], p[present]
    assert log_loss(labels, p) == pytest.approx(sklearn_metrics.log_loss(y, q, labels=[0, 1]))
    assert accuracy(labels, p) == pytest.approx(sklearn_metrics.accuracy_score(y, q >= 0.5))
    assert pcoc(labels, p) == (pytest.approx(q.sum() / y.sum()) if y.sum() else None)


@given(_value_rows)
@settings(max_examples=200, deadline=None)
def test_regression_metrics_equal_scikit_learn_on_the_labelled_rows(rows: Rows) -> None:
    labels, p, present = _columns(rows)
    if not present.any():
        assert rmse(labels, p) is mae(labels, p) is None
        return
    y, q = labels[present], p[present]
    assert rmse(labels, p) == pytest.approx(sklearn_metrics.root_mean_squared_error(y, q))
    assert mae(labels, p) == pytest.approx(sklearn_metrics.mean_absolute_error(y, q))


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, NAN]), st.integers(0, 10**6)), min_size=1, max_size=40))
@settings(max_examples=150, deadline=None)
def test_multiclass_metrics_equal_scikit_learn_on_the_labelled_rows(rows: list[tuple[float, int]]) -> None:
    labels = np.array([label for label, _ in rows])
    probabilities = np.random.default_rng([seed for _, seed in rows]).dirichlet([1, 1, 1], len(rows))
    present = ~np.isnan(labels)
    if not present.any():
        assert multiclass_log_loss(labels, probabilities) is multiclass_auc(labels, probabilities) is None
        return
    y, q = labels[present], probabilities[present]
    assert multiclass_log_loss(labels, probabilities) == pytest.approx(
        sklearn_metrics.log_loss(y, np.clip(q, 1e-7, 1), labels=[0, 1, 2]), rel=1e-5
    )
    assert multiclass_accuracy(labels, probabilities) == pytest.approx((q.argmax(1) == y).mean())
    value = multiclass_auc(labels, probabilities)
    if set(y) == {0.0, 1.0, 2.0}:
        expected = sklearn_metrics.roc_auc_score(y, q, multi_class="ovr", average="macro")
        assert value == pytest.approx(expected)
    elif len(set(y)) == 1:
        assert value is None
    else:
        assert value is not None


def test_multiclass_labels_must_be_classes() -> None:
    with pytest.raises(DataError, match=r"whole numbers from 0 to 2, or missing\. Received 2 others"):
        multiclass_accuracy([0, 3, 0.5, NAN], np.full((4, 3), 1 / 3))


def test_normalized_entropy_is_one_for_the_positive_rate() -> None:
    labels = np.array([1, 0, 0, NAN])
    assert normalized_entropy(labels, np.full(4, 1 / 3)) == pytest.approx(1.0)
    assert normalized_entropy([1, 1], [0.9, 0.8]) is None
    # The methods note: log loss .977117 with three positives among nine gives 1.535107.
    p = np.exp(-0.977117)
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0])
    assert normalized_entropy(labels, np.where(labels, p, 1 - p)) == pytest.approx(1.535107, abs=1e-5)


def test_certain_and_wrong_costs_much_but_not_infinity() -> None:
    assert log_loss([1.0], [0.0]) == pytest.approx(-np.log(1e-7))
    assert log_loss([0.0], [1.0]) == pytest.approx(-np.log(1e-7), rel=1e-6)


def test_calibrated_and_shifted_predictions() -> None:
    assert pcoc([1, 1, 1] + [0] * 6, [4.7 / 9] * 9) == pytest.approx(1.566667, abs=1e-6)
    assert ece([1, 0, 0, 0], [0.25] * 4) == pytest.approx(0.0)
    assert ece([1, 0, 0, 0], [0.5] * 4) == pytest.approx(0.25)
    assert pcoc([0, 0], [0.1, 0.2]) is None


@given(_binary_rows)
@settings(max_examples=150, deadline=None)
def test_calibration_does_not_depend_on_the_order_of_rows(rows: Rows) -> None:
    labels, p, present = _columns(rows)
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    first, second = calibration_curve(labels, p, bins=5), calibration_curve(labels[order], p[order], bins=5)
    for one, other in ((first.rows, second.rows), (first.mean_label, second.mean_label)):
        np.testing.assert_allclose(one, other)
    assert first.rows.sum() == present.sum()
    assert len(first.rows) <= 5
    assert np.all(np.diff(first.mean_prediction) > 0)


def test_bins_hold_about_equal_numbers_of_rows() -> None:
    random = np.random.default_rng(0)
    p = random.beta(1, 50, 10_000)
    curve = calibration_curve(random.random(10_000) < p, p, bins=10)
    assert curve.rows.tolist() == [1000] * 10
    np.testing.assert_allclose(curve.mean_label, curve.mean_prediction, atol=0.02)
    np.testing.assert_allclose(curve.label_deviation**2, curve.mean_label * (1 - curve.mean_label))


def test_relative_gain_has_the_value_of_the_methods_note() -> None:
    gain = relative_gain([0.808, 0.693, 9.5], [0.80, 0.70, 10.0], [False, False, True])
    assert gain == pytest.approx(1.6667, abs=1e-4)
    lift = relative_gain([0.308, 0.193], [0.30, 0.20], [False, False])
    assert lift == pytest.approx(-0.4167, abs=1e-4)
    assert relative_gain([], [], []) is None
    assert relative_gain([1.0], [0.0], [True]) is None


def test_metrics_of_a_binary_task() -> None:
    labels, p, users = [1, 0, NAN, 1], np.array([0.9, 0.2, 0.5, 0.3], np.float32), ["a", "a", "a", "b"]
    metrics = task_metrics("binary", labels, p, users)
    assert {k: metrics[k] for k in ("rows", "labelled", "missing", "positives")} == {
        "rows": 4,
        "labelled": 3,
        "missing": 1,
        "positives": 2,
    }
    assert metrics["mean_label"] == pytest.approx(2 / 3)
    assert metrics["mean_prediction"] == pytest.approx(1.4 / 3)
    assert metrics["auc"] == auc(labels, p)
    assert metrics["gauc"] == gauc(labels, p, users).value
    assert metrics["gauc_users"] == 1
    assert "gauc" not in task_metrics("binary", labels, p)


@pytest.mark.parametrize("kind", ["binary", "regression", "multiclass"])
def test_a_task_without_labels_has_counts_and_no_values(kind: str) -> None:
    p = np.full((2, 3), 1 / 3) if kind == "multiclass" else np.array([0.1, 0.2])
    metrics = task_metrics(kind, [NAN, NAN], p, ["a", "b"])  # type: ignore[arg-type]
    assert (metrics["rows"], metrics["labelled"], metrics["missing"]) == (2, 0, 2)
    counts = {"rows", "labelled", "missing", "positives", "gauc_users"}
    assert {value for name, value in metrics.items() if name not in counts} == {None}


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(DataError, match="kind must be binary"):
        task_metrics("ordinal", [1.0], [0.5])  # type: ignore[arg-type]


def test_the_room_lists_what_is_public_and_needs_numpy_only() -> None:
    assert room.__all__ == sorted(room.__all__)
    assert all(hasattr(room, name) for name in room.__all__)
    heavy = "{'tensorflow', 'keras', 'polars', 'matplotlib', 'sklearn'}"
    code = f"import sys, onehull.metrics; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
