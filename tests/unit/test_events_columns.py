"""Raw columns in the dtypes of the samples table: the id rule agrees with `id_text` for every dtype."""

import math
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onehull.events.columns import feature_rule, feature_values, finite, id_column, label_values, moments, time_rule
from onehull.spec.features import CategoricalFeature, ListFeature, NumericFeature, VectorFeature
from onehull.spec.samples import id_text

SCALARS = {
    pl.String: st.text(max_size=5),
    pl.Int8: st.integers(-128, 127),
    pl.Int64: st.integers(-(2**63), 2**63 - 1),
    pl.UInt64: st.integers(0, 2**64 - 1),
    pl.Float32: st.floats(width=32),
    pl.Float64: st.one_of(st.floats(), st.integers(-(10**20), 10**20).map(float)),
    pl.Boolean: st.booleans(),
    pl.Date: st.dates(),
    pl.Datetime("us"): st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
    pl.Categorical: st.sampled_from(["a", "", "7"]),
    pl.Enum(["a", "b"]): st.sampled_from(["a", "b"]),
    pl.Null: st.none(),
}


def apply(values: pl.Series, expression) -> list:
    frame = values.to_frame("c").lazy()
    return frame.select(expression(pl.col("c"), values.dtype)).collect(engine="streaming").to_series().to_list()


@given(st.data(), st.sampled_from(list(SCALARS)))
def test_a_column_of_ids_follows_the_rule_for_one_id(data, dtype):
    raw = data.draw(st.lists(st.one_of(st.none(), SCALARS[dtype]), max_size=8))
    values = pl.Series("c", raw, dtype=dtype)
    assert apply(values, id_column) == [id_text(value) for value in values.to_list()]


@given(st.data(), st.sampled_from([pl.String, pl.Int64, pl.Float64, pl.Boolean]))
def test_a_list_of_ids_follows_the_rule_and_drops_missing_ones(data, dtype):
    rows = data.draw(
        st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), SCALARS[dtype]), max_size=4)), max_size=5)
    )
    values = pl.Series("c", rows, dtype=pl.List(dtype))
    expected = [None if row is None else [t for value in row if (t := id_text(value))] for row in values.to_list()]
    feature = ListFeature(kind="list")
    assert apply(values, lambda column, known: feature_values(column, known, feature)) == expected


def test_a_separator_splits_text_and_numbers():
    feature = ListFeature(kind="list", separator=",")
    assert apply(pl.Series(["a, b,,c", "", None]), lambda c, d: feature_values(c, d, feature)) == [
        ["a", "b", "c"],
        None,
        None,
    ]
    assert apply(pl.Series([12, None]), lambda c, d: feature_values(c, d, feature)) == [["12"], None]


def test_nan_and_infinities_are_missing_numbers_but_an_infinite_label_stays_to_be_found():
    values = pl.Series([1.5, math.nan, math.inf, -math.inf, None])
    assert apply(values, finite) == [1.5, None, None, None, None]
    assert apply(values, label_values) == [1.5, None, math.inf, -math.inf, None]
    assert apply(pl.Series([True, False, None]), finite) == [1.0, 0.0, None]


def test_a_vector_with_a_missing_element_is_missing():
    feature = VectorFeature(kind="vector", size=2)
    rows = pl.Series([[1.0, 2.0], [1.0, None], [math.nan, 1.0], None], dtype=pl.List(pl.Float64))
    assert apply(rows, lambda c, d: feature_values(c, d, feature)) == [[1.0, 2.0], None, None, None]
    fixed = pl.Series(np.array([[1, 2], [3, 4]], dtype=np.int32), dtype=pl.Array(pl.Int32, 2))
    assert apply(fixed, lambda c, d: feature_values(c, d, feature)) == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        (pl.Series([1, None]), "s", 1_000_000),
        (pl.Series([1_500]), "ms", 1_500_000),
        (pl.Series([1.25]), "s", 1_250_000),
        (pl.Series([7], dtype=pl.Int32), "us", 7),
        (pl.Series(["1970-01-01T00:00:01.5Z"]), "iso", 1_500_000),
        (pl.Series(["1970-01-01 02:00:01+02:00"]), "iso", 1_000_000),
        (pl.Series(["1970-01-02"]), "iso", 86_400_000_000),
        (pl.Series([date(1970, 1, 2)]), "s", 86_400_000_000),
        (pl.Series([datetime(1970, 1, 1, 0, 0, 1)]), "iso", 1_000_000),
        (
            pl.Series([datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)], dtype=pl.Datetime("ms", "Europe/Paris")),
            "s",
            1_000_000,
        ),
    ],
)
def test_times_of_every_kind_become_moments_in_utc(values, unit, expected):
    found = apply(values, lambda column, dtype: moments(column, dtype, unit).dt.epoch("us"))
    assert found[0] == expected


def test_text_that_is_no_time_is_missing():
    assert apply(pl.Series(["soon", ""]), lambda c, d: moments(c, d, "iso")) == [None, None]


def test_rules_say_what_a_column_must_hold():
    text, numbers, lists = pl.String(), pl.Int64(), pl.List(pl.String)
    assert feature_rule(NumericFeature(kind="numeric"), text) == "must hold numbers"
    assert feature_rule(NumericFeature(kind="numeric"), pl.Boolean()) is None
    assert feature_rule(CategoricalFeature(kind="categorical"), lists) == "must hold one value a row, not lists"
    assert feature_rule(ListFeature(kind="list"), text) == "must hold lists (or text, with a separator)"
    assert feature_rule(ListFeature(kind="list", separator="|"), lists) == "must hold text where a separator is given"
    assert feature_rule(VectorFeature(kind="vector", size=1), lists) == "must hold lists of numbers"
    assert feature_rule(VectorFeature(kind="vector", size=1), pl.Null()) is None
    assert time_rule(text, "s") == "must hold numbers where data.time_unit is s"
    assert time_rule(numbers, "iso") == "must hold ISO 8601 text where data.time_unit is iso"
    assert time_rule(pl.Datetime("us"), "iso") is None
