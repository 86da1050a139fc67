"""Wrappers against hand-checked values; each around a method that shows what it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf

from onehull.balance import (
    WRAPPERS,
    Balancer,
    ByGroup,
    Clip,
    Every,
    Fallback,
    Famo,
    GradNorm,
    MatchNorm,
    MetaBalance,
    NashMtl,
    Needs,
    PCGrad,
    Scale,
    Smooth,
    State,
    Static,
    Stats,
)
from onehull.balance.fallback import cosines

GRAM = ((4.0, -2.0), (-2.0, 2.0))
"""Of the gradients (2, 0) and (−1, 1): PCGrad weighs them 1.5 and 2."""

compilers = pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
dtypes = pytest.mark.parametrize("dtype", [tf.float32, tf.float64])


def compiled(function, mode):
    return function if mode == "eager" else tf.function(function, jit_compile=mode == "xla")


def stats_of(losses=(1.0, 1.0), dtype=tf.float32, active=None, gram=GRAM):
    present = tf.ones(len(losses), tf.bool) if active is None else tf.constant([bool(value) for value in active])
    return Stats(tf.constant(losses, dtype), present, tf.constant(gram, dtype), tf.constant(0, tf.int64))


def weights_over(balancer, batches, mode="eager"):
    """The weights of every step."""
    update, state, found = compiled(balancer.update, mode), balancer.init(batches[0].losses_T.shape[0]), []
    for stats in batches:
        weights, state = update(stats, state)
        found.append(weights.numpy())
    return np.array(found)


@dataclass(frozen=True)
class Losses(Balancer):
    """The losses are the weights; the state counts the steps, and what the second look found."""

    needs: ClassVar[Needs] = "losses"
    reevaluates: ClassVar[bool] = True

    def init(self, num_tasks: int) -> dict[str, tf.Tensor]:
        return {"steps": tf.zeros((), tf.int32), "seen": tf.zeros((num_tasks,), tf.float32)}

    def update(self, stats: Stats, state: State) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        return stats.losses_T, {**state, "steps": state["steps"] + 1}

    def observe(self, losses_T: tf.Tensor, stats: Stats, state: State) -> dict[str, tf.Tensor]:
        del stats
        return {**state, "seen": state["seen"] + losses_T}


@compilers
@dtypes
@pytest.mark.parametrize(
    ("balancer", "weights"),
    [
        (Clip(Static((3.0, 0.5)), 2.0), (2, 0.5)),
        (Scale(Static((3.0, 1.0))), (1.5, 0.5)),
        (Scale(Static((3.0, 1.0)), "sum_to_one"), (0.75, 0.25)),
        (Scale(Static((0.0, 0.0))), (0, 0)),
        (Smooth(PCGrad()), (1.5, 2)),
        (Every(PCGrad(), 3), (1.5, 2)),
        # The plain sum is (1, 1), of squared length 2; PCGrad's is (1, 2), of 5.
        (MatchNorm(PCGrad()), (1.5 * (2 / 5) ** 0.5, 2 * (2 / 5) ** 0.5)),
        (MatchNorm(Static((2.0, 2.0))), (1, 1)),
        (ByGroup(PCGrad()), (1.5, 2)),
        # Cosines of ∓0.707107: the condition number is 1.707107 / 0.292893 = 5.828427.
        (Fallback(PCGrad(), 5.8), (1, 1)),
        (Fallback(PCGrad(), 5.9), (1.5, 2)),
    ],
)
def test_weights_of_the_first_step(balancer, weights, mode, dtype):
    found, _ = compiled(balancer.update, mode)(stats_of(dtype=dtype), balancer.init(2))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, weights, atol=1e-6)


@compilers
def test_every_keeps_the_weights_and_the_inner_state_in_between(mode):
    balancer = Every(Losses(), 3)
    update, observe, state = compiled(balancer.update, mode), compiled(balancer.observe, mode), balancer.init(2)
    found: list[list[float]] = []
    steps, seen = [], []
    for number in range(1, 6):
        stats = stats_of((float(number), 10.0 * number))
        weights, state = update(stats, state)
        state = observe(stats.losses_T, stats, state)
        found.append(weights.numpy().tolist())
        steps.append(int(state["inner.steps"]))
        seen.append(float(state["inner.seen"][0]))
    assert found == [[1, 10], [1, 10], [1, 10], [4, 40], [4, 40]]
    assert steps == [1, 1, 1, 2, 2]
    assert seen == [1, 1, 1, 5, 5]


def test_every_does_not_run_the_method_in_between_when_compiled():
    balancer = Every(NashMtl(), 3)
    update = tf.function(balancer.update, jit_compile=True)
    program = update.experimental_get_compiler_ir(stats_of(), balancer.init(2))(stage="optimized_hlo")
    assert "conditional(" in program[program.index("ENTRY") :]
    assert "while(" in program
    assert "while(" not in program[program.index("ENTRY") :]


def test_every_one_is_the_method_itself():
    batches = [stats_of((float(number), 1.0)) for number in range(1, 5)]
    np.testing.assert_array_equal(weights_over(Every(Losses(), 1), batches), weights_over(Losses(), batches))


def test_every_keeps_the_weight_of_a_task_that_is_absent_when_it_is_due():
    batches = [
        stats_of((2.0, 3.0)),
        stats_of((5.0, 0.0), active=(1, 0)),
        stats_of((5.0, 0.0), active=(1, 0)),
        stats_of((7.0, 7.0)),
    ]
    found = weights_over(Every(Losses(), 2), batches)
    np.testing.assert_array_equal(found, [[2, 3], [2, 1], [5, 1], [5, 3]])


@compilers
def test_smooth_is_an_average_over_a_tasks_own_steps(mode):
    batches = [
        stats_of((4.0, 3.0)),
        stats_of((1.0, 0.0), active=(1, 0)),
        stats_of((1.0, 9.0)),
    ]
    found = weights_over(Smooth(Losses(), 0.5), batches, mode)
    # Of the first task: 4, then (½·4 + 1) / 1.5, then (¼·4 + ½·1 + 1) / 1.75.
    np.testing.assert_allclose(found, [[4.0, 3.0], [2.0, 1.0], [2.5 / 1.75, 7.0]], rtol=1e-6)


def test_clip_cuts_negative_weights_too_and_leaves_absent_tasks():
    stats = stats_of((-5.0, 0.4, 0.0), active=(1, 1, 0), gram=np.eye(3))
    np.testing.assert_allclose(weights_over(Clip(Losses(), 0.5), [stats])[0], [-0.5, 0.4, 1])


def test_scale_counts_active_tasks_only_and_turns_no_update_around():
    stats = stats_of((3.0, 1.0, 0.0), active=(1, 1, 0), gram=np.eye(3))
    np.testing.assert_allclose(weights_over(Scale(Losses()), [stats])[0], [1.5, 0.5, 1])
    np.testing.assert_allclose(weights_over(Scale(Losses(), "sum_to_one"), [stats])[0], [0.75, 0.25, 1])
    stats = stats_of((-3.0, 1.0))
    np.testing.assert_allclose(weights_over(Scale(Losses()), [stats])[0], [-3, 1])


def test_match_norm_gives_the_length_of_the_plain_sum():
    rows = np.random.default_rng(0).normal(size=(4, 7))
    stats = stats_of((0.3, 1.7, 0.2, 2.0), dtype=tf.float64, gram=rows @ rows.T)
    weights = weights_over(MatchNorm(Losses()), [stats])[0]
    np.testing.assert_allclose(np.linalg.norm(weights @ rows), np.linalg.norm(rows.sum(axis=0)), rtol=1e-6)
    np.testing.assert_allclose(weights / weights[0], np.array([0.3, 1.7, 0.2, 2.0]) / 0.3, rtol=1e-6)


def test_match_norm_leaves_an_update_that_vanishes():
    opposite = ((1.0, -1.0), (-1.0, 1.0))
    np.testing.assert_allclose(weights_over(MatchNorm(Static((0.5, 0.5))), [stats_of(gram=opposite)])[0], [0.5, 0.5])
    np.testing.assert_allclose(weights_over(MatchNorm(Static((2.0, 1.0))), [stats_of(gram=opposite)])[0], [0, 0])


@compilers
@dtypes
def test_fallback_looks_at_the_cosines_of_tasks_with_a_gradient(mode, dtype):
    balancer = Fallback(Static((2.0, 3.0, 4.0)), 1e4)
    update = compiled(balancer.update, mode)
    sizes = np.diag([1.0, 100.0, 0.01])
    turned = sizes @ [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]] @ sizes
    for gram, active, weights in [
        (turned, (1, 1, 1), (2, 3, 4)),
        (sizes @ np.ones((3, 3)) @ sizes, (1, 1, 1), (1, 1, 1)),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 0]], (1, 1, 0), (2, 3, 1)),
        ([[1, 0, 0], [0, 0, 0], [0, 0, 1]], (1, 1, 1), (2, 3, 4)),
        ([[1, 1, 0], [1, 1, 0], [0, 0, 0]], (1, 1, 0), (1, 1, 1)),
    ]:
        found, _ = update(stats_of((1.0, 1.0, 1.0), dtype, active, gram), {})
        np.testing.assert_allclose(found, weights)


def test_fallback_survives_numbers_that_are_not_finite():
    stats = stats_of(gram=((np.inf, np.nan), (np.nan, 1.0)))
    weights, _ = Fallback(Static((2.0, 3.0))).update(stats, {})
    np.testing.assert_allclose(weights, [2, 3])
    np.testing.assert_array_equal(cosines(tf.constant(((np.inf, np.nan), (np.nan, 1.0)))), np.eye(2))


@compilers
def test_by_group_weighs_each_group_from_its_own_gradients(mode):
    balancer = ByGroup(PCGrad(), ("embedding", "bottom"))
    assert balancer.grouping(("bottom/kernel", "embedding/table", "norm/gamma", "bottom/bias")) == (1, 0, 2, 1)
    grams = tf.constant((GRAM, ((1.0, 0.0), (0.0, 1.0)), GRAM))
    stats = stats_of()._replace(gram_GTT=grams)
    weights, state = compiled(balancer.update, mode)(stats, balancer.init_groups(2, 3))
    np.testing.assert_allclose(weights, [[1.5, 2.0], [1.0, 1.0], [1.5, 2.0]], atol=1e-6)
    np.testing.assert_array_equal(state["inner.seed"], [[0, 1]] * 3)


def test_by_group_keeps_a_state_for_each_group():
    balancer = ByGroup(Smooth(PCGrad(), 0.5), ("first",))
    first = stats_of()._replace(gram_GTT=tf.constant((GRAM, ((1.0, 0.0), (0.0, 1.0)))))
    second = stats_of()._replace(gram_GTT=tf.constant((((1.0, 0.0), (0.0, 1.0)), GRAM)))
    _, state = balancer.update(first, balancer.init_groups(2, 2))
    weights, state = balancer.update(second, state)
    np.testing.assert_allclose(weights, [[1.75 / 1.5, 2 / 1.5], [2 / 1.5, 2.5 / 1.5]], rtol=1e-6)
    seen = balancer.observe(second.losses_T, second, state)
    assert {name: value.shape for name, value in seen.items()} == {name: value.shape for name, value in state.items()}


def test_by_group_refuses_what_has_no_meaning():
    with pytest.raises(ValueError, match="must work on gradients and have one set of weights"):
        ByGroup(Static())
    with pytest.raises(ValueError, match="must work on gradients and have one set of weights"):
        ByGroup(MetaBalance())
    with pytest.raises(ValueError, match=r"must be regular expressions.*Received '\('"):
        ByGroup(PCGrad(), ("x", "("))
    with pytest.raises(ValueError, match=r"each match a shared variable.*Received 'botom'.*Did you mean 'bottom'"):
        ByGroup(PCGrad(), ("botom",)).grouping(("bottom", "embedding"))
    with pytest.raises(ValueError, match=r"that no earlier one matches. Received 'bot'"):
        ByGroup(PCGrad(), ("bottom", "bot")).grouping(("bottom", "embedding"))


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("every", {"steps": 0}, "Every.steps must be at least 1. Received 0"),
        ("smooth", {"decay": 1.0}, "Smooth.decay must be from 0 to below 1. Received 1.0"),
        ("smooth", {"decay": float("nan")}, "Smooth.decay must be from 0 to below 1. Received nan"),
        ("clip", {"largest": 0.0}, "Clip.largest must be above 0. Received 0.0"),
        ("scale", {"to": "one"}, "Scale.to must be sum_to_tasks or sum_to_one. Received 'one'"),
        ("fallback", {"condition": 1.0}, "Fallback.condition must be above 1. Received 1.0"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        WRAPPERS[kind](Static(), **arguments)


def test_states_of_wrappers_in_wrappers_do_not_collide():
    balancer = Smooth(Every(Smooth(Every(Famo(), 2), 0.5), 2), 0.5)
    state = balancer.init(2)
    assert len(state) == 2 + 2 + 2 + 2 + len(Famo().init(2))
    _, after = balancer.update(stats_of((0.9, 0.3)), state)
    after = balancer.observe(tf.constant([0.85, 0.29]), stats_of((0.9, 0.3)), after)
    np.testing.assert_allclose(after["inner.inner.inner.inner.logits"], [-0.025, 0.025], atol=1e-6)


def test_what_the_heads_receive_and_what_is_needed():
    assert (Smooth(Static()).needs, Smooth(Static()).heads) == ("losses", "weighted")
    assert (MatchNorm(Static()).needs, MatchNorm(Static()).heads) == ("gram", "weighted")
    assert (Smooth(GradNorm()).heads, Smooth(PCGrad()).heads) == ("weighted", "own")
    assert ByGroup(GradNorm()).heads == "own"
