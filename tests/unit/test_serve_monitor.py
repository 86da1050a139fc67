from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onehull.serve.monitor import Monitor
from onehull.serve.response import Trace
from onehull.serve.sliders import sliders
from onehull.spec.bundle import FeatureStatistics
from onehull.spec.serving import Monitoring


def trace(rows, missing=0.0, unseen=0.0, score=0.0):
    return Trace(rows, {"age": missing}, {"age": unseen}, {"click": score}, 0, {})


def monitor(window=100):
    rules = Monitoring(window_rows=window, max_unseen_share=0.5, max_missing_increase=0.2)
    return Monitor(rules, {"age": FeatureStatistics(missing_share=0.3)})


def test_shares_are_over_the_latest_rows():
    watch = monitor(100)
    watch.add(trace(100, missing=100))
    for _ in range(4):
        watch.add(trace(25, missing=5, score=2.5))
    window = watch.window()
    assert window.rows == 100
    assert window.missing_share == {"age": pytest.approx(0.2)}
    assert window.mean_score == {"click": pytest.approx(0.1)}


@given(st.lists(st.integers(0, 300), max_size=60))
def test_the_window_is_no_larger_than_it_needs_to_be(sizes):
    watch = monitor(100)
    for rows in sizes:
        watch.add(trace(rows))
    window = watch.window()
    assert window.rows >= min(100, sum(sizes))
    assert window.rows - 100 < 300


def test_nothing_is_judged_before_the_window_is_full():
    watch = monitor(100)
    watch.add(trace(99, missing=99, unseen=99))
    assert watch.reasons() == []
    watch.add(trace(1, missing=1, unseen=1))
    assert len(watch.reasons()) == 2


@pytest.mark.parametrize(
    ("missing", "unseen", "reasons"), [(49, 0, 0), (51, 0, 1), (0, 50, 0), (0, 51, 1), (100, 100, 2)]
)
def test_limits(missing, unseen, reasons):
    watch = monitor(100)
    watch.add(trace(100, missing, unseen))
    assert len(watch.reasons()) == reasons


def test_slider_ranges_hold_the_value_and_are_round():
    found = sliders({"click.power": 1.0, "like.times": 4.0, "hate.times": -20.0, "share.times": 400.0, "x.times": 0.0})
    assert [(s["min"], s["max"], s["step"]) for s in found] == [
        (0.0, 3.0, 0.05),
        (0.0, 10.0, 0.1),
        (-50.0, 0.0, 0.5),
        (0.0, 1000.0, 10.0),
        (0.0, 10.0, 0.1),
    ]


@given(st.floats(-1e6, 1e6))
def test_every_weight_fits_its_slider(value):
    (slider,) = sliders({"a.times": value})
    assert slider["min"] <= value <= slider["max"]
    assert 0 < slider["step"] < slider["max"] - slider["min"]
