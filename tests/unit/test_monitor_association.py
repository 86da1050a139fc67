"""AUC, rank correlation and information of single features, against scikit-learn and SciPy, and against chance."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from sklearn.metrics import roc_auc_score

from onehull.monitor.association import FOLDS, auc, bins_of, id_scores, information, number_scores, rank_correlation
from onehull.monitor.values import coordinates, id_column, numbers


def area(*arguments) -> float:
    found = auc(*arguments)
    assert found is not None
    return found


def told(*arguments) -> float:
    found = information(*arguments)
    assert found is not None
    return found


def folds(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(FOLDS, size=rows)


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_auc_of_a_number_is_that_of_scikit_learn_in_the_better_direction(decimals):
    random = np.random.default_rng(decimals)
    label = random.random(500) < 0.3
    value: Any = np.round(random.normal(size=500) - label, decimals)
    value[::7] = np.nan
    known = random.random(500) < 0.8
    used = known & ~np.isnan(value)
    expected = roc_auc_score(label[used], value[used])
    assert expected < 0.5
    assert auc(number_scores(numbers(value)), label, known) == pytest.approx(1 - expected, abs=1e-12)


def test_auc_of_one_class_is_undefined():
    everything = np.ones(10, dtype=bool)
    assert auc(number_scores(numbers(np.arange(10.0))), everything, everything) is None


def test_rank_correlation_is_that_of_scipy_without_sign():
    random = np.random.default_rng(1)
    value: Any = np.round(random.normal(size=400), 1)
    label: Any = np.round(random.normal(size=400), 1) - value
    value[::9] = np.nan
    label[::11] = np.nan
    used = ~np.isnan(value) & ~np.isnan(label)
    expected = spearmanr(value[used], label[used]).statistic
    found = rank_correlation(number_scores(numbers(value)), numbers(label))
    assert found == pytest.approx(-expected, abs=1e-9)


def test_information_of_a_copy_is_all_and_of_noise_is_none():
    random = np.random.default_rng(2)
    label = (random.random(20_000) < 0.02).astype(np.int64)
    everything = np.ones(20_000, dtype=bool)
    copy = number_scores(numbers(1.0 - label))
    assert information(copy, label, everything) == pytest.approx(1.0, abs=0.01)
    assert told(number_scores(numbers(random.normal(size=20_000))), label, everything) < 0.02
    assert information(copy, np.zeros(20_000, dtype=np.int64), everything) is None


def test_information_sees_what_no_order_shows():
    value = np.random.default_rng(3).normal(size=20_000)
    label = np.abs(value) < 0.7
    everything = np.ones(20_000, dtype=bool)
    scores = number_scores(numbers(value))
    assert area(scores, label, everything) < 0.52
    assert told(scores, label.astype(np.int64), everything) > 0.8


def test_information_about_a_number_is_about_its_bins():
    value = np.random.default_rng(10).normal(size=20_000)
    everything = np.ones(20_000, dtype=bool)
    assert told(number_scores(numbers(value)), bins_of(numbers(value**3), 16), everything) > 0.95
    assert told(number_scores(numbers(-value)), bins_of(numbers(value + 1), 16), everything) > 0.95
    noise = np.random.default_rng(11).normal(size=20_000)
    assert told(number_scores(numbers(noise)), bins_of(numbers(value), 16), everything) < 0.01


def test_a_missing_value_informs_like_a_value():
    label = np.arange(2000) % 2
    value = np.where(label == 1, np.random.default_rng(4).normal(size=2000), np.nan)
    everything = np.ones(2000, dtype=bool)
    assert told(number_scores(numbers(value)), label, everything) > 0.95


def test_ids_that_are_seen_once_tell_nothing():
    random = np.random.default_rng(5)
    label = random.random(5000) < 0.3
    ids = id_column(pl.Series([f"u{n}" for n in range(5000)]))
    scores = id_scores(ids, label.astype(float), folds(5000))
    everything = np.ones(5000, dtype=bool)
    assert auc(scores, label, everything) == 0.5
    assert told(scores, label.astype(np.int64), everything) < 0.01


def test_a_constant_id_tells_nothing():
    label = np.random.default_rng(6).random(60) < 0.5
    scores = id_scores(id_column(pl.Series(["same"] * 60)), label.astype(float), folds(60))
    assert auc(scores, label, np.ones(60, dtype=bool)) == 0.5


def test_an_id_that_is_the_label_tells_all():
    label = np.random.default_rng(7).random(3000) < 0.1
    ids = id_column(pl.Series(np.where(label, "yes", "no")))
    scores = id_scores(ids, label.astype(float), folds(3000))
    everything = np.ones(3000, dtype=bool)
    assert auc(scores, label, everything) == 1.0
    assert told(scores, label.astype(np.int64), everything) > 0.98


def test_one_id_of_a_bag_tells_all():
    random = np.random.default_rng(8)
    label = random.random(3000) < 0.1
    bags = [[*(f"t{n}" for n in random.integers(50, size=3)), *(["clicked"] if one else [])] for one in label]
    bags[0], bags[1] = [], None  # type: ignore[call-overload]
    ids = id_column(pl.Series(bags, dtype=pl.List(pl.String)))
    assert list(ids.missing[:3]) == [True, True, False]
    scores = id_scores(ids, label.astype(float), folds(3000))
    assert area(scores, label, np.ones(3000, dtype=bool)) > 0.999


def test_rows_without_a_label_are_not_learned_from():
    label = np.where(np.arange(400) < 200, np.arange(400) % 2, np.nan)
    ids = id_column(pl.Series([f"i{n % 2}" for n in range(200)] + ["i0"] * 200))
    scores = id_scores(ids, label, folds(400))
    assert auc(scores, label == 1, ~np.isnan(label)) == 1.0


def test_bins_hold_equal_parts_and_keep_equal_values_together():
    values = np.concatenate([np.zeros(500), np.random.default_rng(9).permutation(500) + 1.0, [np.nan] * 10])
    bins = bins_of(numbers(values), 10)
    assert set(bins[-10:]) == {0}
    assert len(set(bins[:500])) == 1
    assert not set(bins[:500]) & set(bins[500:1000])
    rest = np.bincount(bins[500:1000])
    assert rest[rest > 0].max() <= 101


def test_long_vectors_are_looked_at_on_fewer_rows():
    column = pl.Series([[float(n)] * 4 if n % 3 else None for n in range(30)], dtype=pl.List(pl.Float32))
    found = list(coordinates(column, 4))
    assert len(found) == 4
    assert np.isnan(found[0][0][0])
    assert found[0][0][1] == 1.0
    assert found[0][1] == slice(None, None, 1)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(100, 3000),
    rate=st.floats(0.03, 0.97),
    distinct=st.integers(1, 4000),
)
def test_noise_tells_nothing(seed: int, rows: int, rate: float, distinct: int):
    random = np.random.default_rng(seed)
    label = random.random(rows) < rate
    everything = np.ones(rows, dtype=bool)
    if min(label.sum(), rows - label.sum()) < 30:
        return
    ids = id_column(pl.Series(random.integers(distinct, size=rows)).cast(pl.String))
    for scores in (
        number_scores(numbers(random.standard_cauchy(rows))),
        number_scores(numbers(random.integers(distinct, size=rows).astype(float))),
        id_scores(ids, label.astype(float), folds(rows, seed)),
    ):
        assert area(scores, label, everything) < 0.9
        assert told(scores, label.astype(np.int64), everything) < 0.5
