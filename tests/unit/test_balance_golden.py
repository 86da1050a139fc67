"""Balancers against published and hand-checked values (E1, E2, E3, E3b: gradients of two or three tasks)."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from onehull.balance import (
    BALANCERS,
    ByGroup,
    Clip,
    Dwa,
    Every,
    Fallback,
    GradNorm,
    MatchNorm,
    MetaBalance,
    PCGrad,
    Scale,
    Smooth,
    Static,
    Stats,
    balancer_config,
    build_balancer,
    get_balancer,
    task_weights,
)
from onehull.balance.draws import random_orders
from onehull.balance.pcgrad import projected_weights
from onehull.spec.balance import DwaBalance, GradnormBalance, MetabalanceBalance, PcgradBalance, StaticBalance

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"
E1 = [[-4, 1, 1], [6, 1, 1]]
E2 = [[2, 0], [-1, 1]]
E3 = [[1, 0], [-1, 1], [0, -2]]
E3B = [[1, 0, 1], [-1, 2, 0], [0, -1, 3]]


def stats_of(rows, dtype=tf.float64):
    matrix = tf.constant(rows, dtype)
    tasks = len(rows)
    gram = tf.matmul(matrix, matrix, transpose_b=True)
    return Stats(tf.ones(tasks, dtype), tf.ones(tasks, tf.bool), gram, tf.constant(0, tf.int64))


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize(("rows", "weights"), [(E1, [2.222222, 1.578947]), (E2, [1.5, 2.0])])
def test_pcgrad_of_two_tasks_does_not_depend_on_the_order(mode, dtype, rows, weights):
    balancer = PCGrad(seed=3)
    update = {
        "eager": balancer.update,
        "graph": tf.function(balancer.update),
        "xla": tf.function(balancer.update, jit_compile=True),
    }[mode]
    found, _ = update(stats_of(rows, dtype), balancer.init(2))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, weights, atol=1e-6)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_pcgrad_of_three_tasks_in_ascending_order(jit, dtype):
    ascending = tf.constant([[0, 1, 2]] * 3)
    solve = tf.function(projected_weights, jit_compile=jit)
    np.testing.assert_allclose(solve(stats_of(E3B, dtype).gram_TT, ascending), [1.5, 1.6, 1.05], atol=1e-6)
    np.testing.assert_allclose(solve(stats_of(E3, dtype).gram_TT, ascending), [2.0, 2.5, 1.75], atol=1e-6)


def test_pcgrad_draws_an_order_for_each_task():
    # Eight choices of orders give exactly four updates, see Yu et al., algorithm 1.
    state, seen, update = PCGrad().init(3), set(), tf.function(PCGrad().update)
    for _ in range(100):
        weights, state = update(stats_of(E3), state)
        seen.add(tuple(np.round(weights.numpy() @ np.array(E3, float), 6) + 0.0))
    assert seen == set(itertools.product([-0.5, 0.5], [-1.0, -0.5]))


def test_random_orders_are_uniform_permutations():
    draw = tf.function(lambda step: random_orders(tf.stack([tf.constant(7, tf.int64), step]), 3, 4))
    orders = np.stack([draw(tf.constant(step, tf.int64)) for step in range(1000)])
    assert (np.sort(orders, axis=2) == np.arange(4)).all()
    # 3000 draws of the 24 orders: a chi-square of 23 degrees of freedom is below 49.7 with probability 0.999.
    _, counts = np.unique(orders.reshape(-1, 4), axis=0, return_counts=True)
    assert len(counts) == 24
    assert ((counts - 125) ** 2 / 125).sum() < 49.7


def test_dwa_weighs_by_the_ratio_of_the_last_two_windows():
    balancer = Dwa(window_steps=2)
    state = balancer.init(2)
    windows = [[[1.0, 0.4], [1.0, 0.6]], [[0.7, 0.5], [0.9, 0.5]]]
    for losses in itertools.chain(*windows):
        weights, state = balancer.update(_losses(losses), state)
        np.testing.assert_allclose(weights, [1, 1], atol=1e-6)
    weights, state = balancer.update(_losses([0.5, 0.5]), state)
    np.testing.assert_allclose(weights, [0.950042, 1.049958], atol=1e-6)


def test_dwa_averages_only_over_steps_with_labels():
    balancer = Dwa(window_steps=2)
    state = balancer.init(2)
    for losses, active in [([1, 0.5], [1, 1]), ([1, 0], [1, 0]), ([0.8, 0], [1, 0]), ([0.8, 0.5], [1, 1])]:
        _, state = balancer.update(_losses(losses, active), state)
    np.testing.assert_allclose(state["before"], [1, 0.5], atol=1e-6)
    np.testing.assert_allclose(state["last"], [0.8, 0.5], atol=1e-6)


def test_static_weights_are_fixed_and_must_fit():
    weights, _ = Static((2.0, 0.5)).update(_losses([1, 1]), {})
    np.testing.assert_allclose(weights, [2, 0.5])
    with pytest.raises(ValueError, match="one weight for each of 3 tasks"):
        Static((2.0, 0.5)).init(3)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be numbers from 0 up"):
            Static((weight, 1.0)).init(2)
    with pytest.raises(ValueError, match="must be none or initial"):
        BALANCERS["static"](reference="first").init(2)


def test_values_of_the_shared_fixtures():
    if not (GOLDEN / "balancers.json").is_file():
        pytest.skip(f"{GOLDEN} is not here: the fixtures are not part of the repository")
    first = json.loads((GOLDEN / "balancers.json").read_text())
    more = json.loads((GOLDEN / "balancers_more.json").read_text())
    for rows, golden in [(first["E2"]["J"], first["pcgrad_sum"]), (E1, more["E1_pcgrad"])]:
        weights, _ = PCGrad().update(stats_of(rows), PCGrad().init(2))
        np.testing.assert_allclose(weights, golden["w"], atol=1e-6)
        np.testing.assert_allclose(weights.numpy() @ np.array(rows), golden["g"], atol=2e-6)
    weights, _ = Static().update(stats_of(first["E2"]["J"]), {})
    np.testing.assert_allclose(weights, first["sum"]["w"])


def test_a_section_of_the_spec_becomes_its_method():
    assert build_balancer(StaticBalance(weights={"a": 2.0}), ["a", "b"]) == Static()
    assert build_balancer(DwaBalance(kind="dwa", window_steps=7), ["a", "b"]) == Dwa(window_steps=7)
    assert build_balancer(PcgradBalance(kind="pcgrad", seed=5), ["a"]) == PCGrad(seed=5)
    gradnorm = GradnormBalance(kind="gradnorm", initial_losses={"b": 0.5, "a": 0.7})
    assert build_balancer(gradnorm, ["a", "b"]) == GradNorm(initial_losses=(0.7, 0.5))
    metabalance = MetabalanceBalance(kind="metabalance", target="b")
    assert build_balancer(metabalance, ["a", "b"]) == MetaBalance(target=1)
    assert build_balancer(metabalance, ["a"]) == MetaBalance()
    with pytest.raises(ValueError, match=r"balance\.target must name a task. Received 'b'. Known: 'a', 'c'"):
        build_balancer(metabalance, ["a", "c"])
    assert task_weights(StaticBalance(weights={"a": 2.0}), ["a", "b"]) == {"a": 2.0, "b": 1.0}


def test_the_reference_of_a_section_is_initial_in_the_method_and_prior_in_the_weights():
    initial = StaticBalance(weights={"a": 2.0}, reference="initial", reference_steps=5)
    assert build_balancer(initial, ["a", "b"]) == Static((2.0, 1.0), reference="initial", reference_steps=5)
    prior = StaticBalance(weights={"a": 2.0}, reference="prior")
    assert build_balancer(prior, ["a", "b"]) == Static()
    weights = task_weights(prior, ["a", "b", "c"], {"a": 0.5, "c": 0.1})
    assert weights == pytest.approx({"a": 2 / 0.693147, "b": 1.0, "c": 1 / 0.325083}, rel=1e-5)
    with pytest.raises(ValueError, match="needs the share of positives"):
        task_weights(prior, ["a"])
    with pytest.raises(ValueError, match=r"positives and negatives of 'a'.*share of 0"):
        task_weights(prior, ["a"], {"a": 0.0})


def test_the_wrappers_of_a_section_stand_in_their_order():
    section = PcgradBalance(
        kind="pcgrad", every=4, smooth=0.5, clip=3, scale="sum_to_one", match_norm=True, fallback=1e4,
        level="parameters", groups=("bottom",),
    )  # fmt: skip
    inner = Clip(Smooth(Every(Fallback(PCGrad(), 1e4), 4), 0.5), 3.0)
    expected = ByGroup(MatchNorm(Scale(inner, "sum_to_one")), ("bottom",))
    assert build_balancer(section, ["a", "b"]) == expected
    assert get_balancer(balancer_config(expected)) == expected


def test_what_a_user_writes_wrongly_is_answered_with_what_is_right():
    with pytest.raises(ValueError, match=r"'pcgrad' has no argument 'sed'.*Did you mean 'seed'"):
        get_balancer({"kind": "pcgrad", "sed": 1})
    with pytest.raises(ValueError, match="'every' must have an inner balancer"):
        get_balancer({"kind": "every", "steps": 2})
    with pytest.raises(ValueError, match=r"Received 'pcgrd'.*Did you mean 'pcgrad'"):
        get_balancer({"kind": "every", "inner": "pcgrd"})


class Own(Static):
    """A method of a user."""


def test_a_method_outside_the_registries_has_no_config():
    assert balancer_config(Own()) is None
    assert balancer_config(Every(Own(), 2)) is None
    assert balancer_config(None) is None


def test_a_name_that_is_not_known_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"Received 'pcgard'.*Did you mean 'pcgrad'"):
        get_balancer("pcgard")


def _losses(losses, active=(1, 1)):
    present = tf.constant([bool(value) for value in active])
    return Stats(tf.constant(losses, tf.float32), present, None, tf.constant(0, tf.int64))
