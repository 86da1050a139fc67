from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from onehull.errors import DataError
from onehull.metrics import RankedScores, StreamingAuc, auc, gauc, roc_curve, xauc

Rows = list[tuple[float, float]]

# Few different scores, so that ties are common.
_rows = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, float("nan")]), st.integers(0, 8).map(lambda i: i / 8)),
    min_size=1,
    max_size=60,
)


def _columns(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, scores = np.array(rows, dtype=np.float64).T
    return labels, scores, ~np.isnan(labels)


@given(_rows)
@settings(max_examples=300, deadline=None)
def test_auc_equals_scikit_learn_on_the_labelled_rows(rows: Rows) -> None:
    labels, scores, present = _columns(rows)
    value = auc(labels, scores)
    if len(set(labels[present])) < 2:
        assert value is None
    else:
        assert value == pytest.approx(roc_auc_score(labels[present], scores[present]), abs=1e-12)


@given(_rows, st.lists(st.integers(0, 4), min_size=60, max_size=60))
@settings(max_examples=200, deadline=None)
def test_weighted_auc_is_the_auc_of_repeated_rows(rows: Rows, counts: list[int]) -> None:
    labels, scores, _ = _columns(rows)
    weights = np.array(counts[: len(rows)])
    repeated = auc(np.repeat(labels, weights), np.repeat(scores, weights)) if weights.sum() else None
    value = auc(labels, scores, weights)
    assert value == (None if repeated is None else pytest.approx(repeated, abs=1e-12))


def test_auc_counts_ties_half() -> None:
    assert auc([1, 0], [0.5, 0.5]) == 0.5
    assert auc([1, 0, 0, 1], [0.2, 0.2, 0.1, 0.9]) == (0.5 + 1 + 2) / 4


def test_auc_needs_two_classes() -> None:
    assert auc([1, 1, np.nan], [0.1, 0.9, 0.5]) is None
    assert auc([], []) is None
    assert auc([np.nan], [0.3]) is None
    assert RankedScores(np.array([0.0, 1.0]), np.array([0.1, 0.2])).auc(np.array([1.0, 0.0])) is None


def test_auc_takes_any_monotone_scale() -> None:
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 2, 500), random.normal(size=500)
    assert auc(labels, scores) == auc(labels, np.exp(scores))


def test_what_is_not_finite_or_not_a_label_is_refused() -> None:
    with pytest.raises(DataError, match=r"predictions must be finite\. Received 2 of 3"):
        auc([1, 0, np.nan], [0.1, np.nan, np.inf])
    with pytest.raises(DataError, match=r"must be 0, 1 or missing\. Received 1 others"):
        auc([1, 0, 2], [0.1, 0.2, 0.3])
    with pytest.raises(DataError, match="must have the same rows"):
        auc([1, 0, 1], [0.1, 0.2])
    with pytest.raises(DataError, match="weights must be at least 0"):
        auc([1, 0], [0.1, 0.2], [1, -1])


def test_gauc_weighs_users_by_impressions_and_leaves_out_one_class() -> None:
    users = ["a"] * 3 + ["b"] * 4 + ["c"] * 2
    labels = [1, 0, 0, 1, 0, 0, 0, 0, 0]
    # User a: one of two pairs in order; user b: two of three; user c has no positive.
    scores = [0.5, 0.4, 0.6, 0.5, 0.1, 0.2, 0.9, 0.3, 0.8]
    grouped = gauc(labels, scores, users)
    assert grouped.value == pytest.approx((3 * 0.5 + 4 * 2 / 3) / 7)
    assert grouped.unweighted == pytest.approx((0.5 + 2 / 3) / 2)
    assert (grouped.users_counted, grouped.users_left_out, grouped.rows_counted) == (2, 1, 7)


def test_gauc_has_the_value_of_the_methods_note() -> None:
    users = np.array([1, 1, 1, 2, 2, 2, 2, 3, 3])
    labels = [1, 0, 0, 1, 1, 0, 0, 0, 0]
    scores = [0.5, 0.4, 0.6, 0.9, 0.3, 0.2, 0.4, 0.1, 0.8]
    grouped = gauc(labels, scores, users)
    assert grouped.value == pytest.approx(0.642857, abs=1e-6)
    assert grouped.unweighted == pytest.approx(0.625)


@given(_rows, st.lists(st.sampled_from(["a", "b", "c", None]), min_size=60, max_size=60))
@settings(max_examples=300, deadline=None)
def test_gauc_equals_a_loop_over_users(rows: Rows, ids: list[str | None]) -> None:
    labels, scores, present = _columns(rows)
    users = np.array(ids[: len(rows)], dtype=object)
    total = weight = counted = 0.0
    for user in ("a", "b", "c"):
        mine = (users == user) & present
        if len(set(labels[mine])) == 2:
            total += mine.sum() * roc_auc_score(labels[mine], scores[mine])
            weight += mine.sum()
            counted += 1
    grouped = gauc(labels, scores, users)
    assert grouped.value == (pytest.approx(total / weight) if weight else None)
    assert (grouped.users_counted, grouped.rows_counted) == (counted, weight)


def test_gauc_reads_numeric_users_and_leaves_out_nan() -> None:
    assert gauc([1, 0, 1], [0.9, 0.1, 0.2], [7.0, 7.0, np.nan]).rows_counted == 2
    assert gauc([1, 0], [0.9, 0.1], [np.nan, np.nan]).value is None


def test_a_million_rows_take_seconds() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 1_000_000).astype(float)
    scores = random.random(1_000_000)
    users = random.integers(0, 50_000, 1_000_000)
    start = time.perf_counter()
    assert auc(labels, scores) == pytest.approx(0.5, abs=0.01)
    assert gauc(labels, scores, users).value == pytest.approx(0.5, abs=0.01)
    assert xauc(scores, labels) == pytest.approx(0.5, abs=0.01)
    assert time.perf_counter() - start < 10


def _slow_xauc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    wins, pairs = 0.0, 0
    for i in range(len(labels)):
        for j in range(i):
            if labels[i] != labels[j] and not np.isnan(labels[i]) and not np.isnan(labels[j]):
                product = (labels[i] - labels[j]) * (scores[i] - scores[j])
                wins += 1.0 if product > 0 else 0.5 if product == 0 else 0.0
                pairs += 1
    return wins / pairs if pairs else None


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.5, 3.0, float("nan")]), st.integers(0, 5).map(float)), min_size=1, max_size=30
    )
)
@settings(max_examples=200, deadline=None)
def test_xauc_is_the_share_of_ordered_pairs(rows: Rows) -> None:
    labels, scores, _ = _columns(rows)
    expected = _slow_xauc(labels, scores)
    assert xauc(labels, scores) == (None if expected is None else pytest.approx(expected))


def test_xauc_leaves_out_label_ties() -> None:
    # Six pairs, one with equal labels, four of the other five in order: 0.8, where counting ties as errors gives 0.667.
    assert xauc([0, 10, 10, 50], [1, 2, 3, 2.5]) == pytest.approx(0.8)


def test_xauc_of_a_binary_label_is_its_auc() -> None:
    random = np.random.default_rng(1)
    labels, scores = random.integers(0, 2, 1500), random.integers(0, 20, 1500) / 20
    assert xauc(labels, scores) == pytest.approx(auc(labels, scores))


def test_sampled_xauc_is_near_the_exact_one_and_repeats() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, 2, 30_000).astype(float)
    scores = labels + random.normal(size=30_000)
    sampled = xauc(labels, scores, seed=3)
    assert sampled == pytest.approx(auc(labels, scores), abs=0.002)
    assert sampled == xauc(labels, scores, seed=3) != xauc(labels, scores, seed=4)


@given(_rows)
@settings(max_examples=200, deadline=None)
def test_the_roc_curve_passes_through_scikit_learns_points(rows: Rows) -> None:
    labels, scores, present = _columns(rows)
    curve = roc_curve(labels, scores, points=1000)
    if len(set(labels[present])) < 2:
        assert curve is None
        return
    assert curve is not None
    false, true, _ = sklearn_roc_curve(labels[present], scores[present], drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, false)
    np.testing.assert_allclose(curve.true_positive_rate, true)
    assert np.trapezoid(curve.true_positive_rate, curve.false_positive_rate) == pytest.approx(auc(labels, scores))


def test_a_thinned_roc_curve_keeps_its_ends_and_its_area() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 20_000)
    scores = labels + random.normal(size=20_000)
    curve = roc_curve(labels, scores, points=100)
    assert curve is not None
    assert len(curve.true_positive_rate) <= 102
    assert (curve.false_positive_rate[0], curve.true_positive_rate[-1]) == (0.0, 1.0)
    area = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
    assert area == pytest.approx(auc(labels, scores), abs=1e-3)


@given(_rows, st.integers(1, 7))
@settings(max_examples=200, deadline=None)
def test_streaming_auc_equals_the_global_one_within_its_bound(rows: Rows, batch: int) -> None:
    labels, scores, _ = _columns(rows)
    for bins in (3, 4096):
        streaming = StreamingAuc(bins)
        for start in range(0, len(rows), batch):
            streaming.update(labels[start : start + batch], scores[start : start + batch])
        expected, bound = auc(labels, scores), streaming.error_bound()
        if expected is None or bound is None:
            assert expected is bound is streaming.value() is None
        else:
            # Eighths fall into bins of their own among 4096, so that only real ties are left: no error at all.
            tolerance = bound if bins == 3 else 0.0
            assert streaming.value() == pytest.approx(expected, abs=tolerance + 1e-12)


def test_batches_of_one_class_do_not_move_the_auc() -> None:
    streaming = StreamingAuc()
    streaming.update([0, 0, 0], [0.1, 0.2, 0.9])
    assert streaming.value() is None
    streaming.update([1, np.nan], [0.5, 0.5])
    assert streaming.value() == pytest.approx(2 / 3)


def test_streaming_auc_merges_workers() -> None:
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 2, 1000), random.random(1000)
    whole, first, second = StreamingAuc(), StreamingAuc(), StreamingAuc()
    whole.update(labels, scores)
    first.update(labels[:300], scores[:300])
    second.update(labels[300:], scores[300:])
    first.merge(second)
    assert first.value() == whole.value()
    with pytest.raises(DataError, match="bins must be equal"):
        first.merge(StreamingAuc(10))
    with pytest.raises(DataError, match=r"Received 1 outside \[0, 1\]"):
        first.update([1], [1.5])
