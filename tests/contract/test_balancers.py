"""What every balancing method and every wrapper owes, whatever it computes: one suite over the registries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from onehull.balance import (
    BALANCERS,
    WRAPPERS,
    Balancer,
    Stats,
    balancer_config,
    build_balancer,
    get_balancer,
)
from onehull.spec.balance import Balance

ARGUMENTS: dict[str, dict[str, Any]] = {
    "dwa": {"window_steps": 2},
    "stch": {"warmup_steps": 2},
    "by_group": {"patterns": ("first",)},
    "every": {"steps": 2},
    "clip": {"largest": 0.75},
}
"""What makes a few steps enough to see a subject at work; all others have their defaults."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "famo of the next batch": ("famo", {"same_batch": False}),
    "gradcraft with averages": ("gradcraft", {"tau": 0.5, "epsilon": 0.1, "decay": 0.9}),
    "static over initial losses": ("static", {"reference": "initial", "reference_steps": 2}),
}
"""Arguments that bring a state, or another one, with them."""

METHODS = sorted(BALANCERS)
SUBJECTS = [*METHODS, *VARIANTS, *sorted(WRAPPERS)]

UNEQUAL = {
    "metabalance": "one task is the target of the others",
    "rlw": "each position draws its own weight",
}
"""Methods to which the tasks are not all the same."""

PATHS = ("first/kernel", "first/bias", "second/kernel")


def make(kind) -> Balancer:
    if kind in VARIANTS:
        method, arguments = VARIANTS[kind]
        return BALANCERS[method](**arguments)
    arguments = ARGUMENTS.get(kind, {})
    return WRAPPERS[kind](BALANCERS["pcgrad"](), **arguments) if kind in WRAPPERS else BALANCERS[kind](**arguments)


def random_stats(tasks, seed=0, dtype=tf.float32, active=None, groups=None):
    rng = np.random.default_rng(seed)
    present = np.ones(tasks, bool) if active is None else np.asarray(active)
    rows = rng.normal(size=(groups or 1, tasks, 20)) * present[:, None]
    losses = rng.uniform(0.1, 2, tasks) * present
    gram = np.einsum("gin,gjn->gij", rows, rows)
    by_group = tf.constant(gram, dtype) if groups else None
    gram = tf.constant(gram.sum(axis=0), dtype)
    return Stats(tf.constant(losses, dtype), tf.constant(present), gram, tf.constant(seed, tf.int64), by_group)


def step(balancer, stats, state):
    """Weights and state of a whole step; the second look finds every loss a little lower."""
    weights, state = balancer.update(stats, state)
    if balancer.reevaluates:
        faster = tf.cast(tf.range(1, stats.losses_T.shape[0] + 1), stats.losses_T.dtype)
        state = balancer.observe(stats.losses_T * 0.9**faster, stats, state)
    return weights, state


def run(balancer, batches):
    state = balancer.init(batches[0].losses_T.shape[0])
    weights = tf.zeros(0)
    for stats in batches:
        weights, state = step(balancer, stats, state)
    return weights, state


def form(state):
    return {name: (value.shape, value.dtype) for name, value in state.items()}


def by_task(state, tasks):
    return {n: v for n, v in state.items() if v.shape.rank and v.shape[-1] == tasks and v.dtype.is_floating}


@pytest.mark.parametrize("kind", SUBJECTS)
def test_the_same_arguments_give_the_same_answer(kind):
    balancer = make(kind)
    batches = [random_stats(3, seed) for seed in range(6)]
    (first, first_state), (second, second_state) = run(balancer, batches), run(balancer, batches)
    np.testing.assert_array_equal(first, second)
    for name, value in first_state.items():
        np.testing.assert_array_equal(value, second_state[name])


@pytest.mark.parametrize("kind", SUBJECTS)
@pytest.mark.parametrize(
    ("tasks", "dtype"), [(1, tf.float32), (2, tf.float64), (3, tf.float32), (7, tf.float64), (12, tf.float32)]
)
def test_weights_are_finite_and_the_state_keeps_its_form(kind, tasks, dtype):
    balancer = make(kind)
    state = balancer.init(tasks)
    weights, new_state = step(balancer, random_stats(tasks, dtype=dtype), state)
    assert weights.shape == (tasks,)
    assert weights.dtype == dtype
    assert np.isfinite(weights).all()
    assert form(state) == form(new_state)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_a_compiled_step_is_traced_once_and_equals_the_eager_one(kind):
    balancer, traces = make(kind), []

    def traced(stats, state):
        traces.append(1)
        return step(balancer, stats, state)

    compiled = tf.function(traced, jit_compile=True)
    state = eager_state = balancer.init(4)
    for seed in range(5):
        stats = random_stats(4, seed)
        weights, state = compiled(stats, state)
        eager_weights, eager_state = step(balancer, stats, eager_state)
        np.testing.assert_allclose(weights, eager_weights, rtol=1e-5, atol=1e-6)
    assert len(traces) == 1


@pytest.mark.parametrize("kind", SUBJECTS)
def test_one_task_alone_keeps_its_direction(kind):
    balancer = make(kind)
    weights, _ = run(balancer, [random_stats(1, seed) for seed in range(5)])
    assert weights[0] > 0
    if balancer.needs == "gram" and kind != "clip":  # a method on losses may make the loss another size
        np.testing.assert_allclose(weights, [1.0], atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in SUBJECTS if kind != "rlw"])
def test_an_absent_task_has_weight_one_and_does_not_move_the_others(kind):
    balancer = make(kind)
    batches = [random_stats(3, seed, active=[True, False, True]) for seed in range(6)]
    pairs = [
        Stats(
            tf.gather(s.losses_T, [0, 2]),
            tf.gather(s.active_T, [0, 2]),
            tf.gather(tf.gather(s.gram_TT, [0, 2]), [0, 2], axis=1),
            s.step,
        )
        for s in batches
    ]
    state, state_of_pair = balancer.init(3), balancer.init(2)
    for stats, pair in zip(batches, pairs, strict=True):
        weights, state = balancer.update(stats, state)
        without, state_of_pair = balancer.update(pair, state_of_pair)
        state = balancer.observe(stats.losses_T * [0.9, 1, 0.7], stats, state)
        state_of_pair = balancer.observe(pair.losses_T * [0.9, 0.7], pair, state_of_pair)
    assert weights[1] == 1
    np.testing.assert_allclose(tf.gather(weights, [0, 2]), without, rtol=1e-5)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_an_absent_task_keeps_its_part_of_the_state(kind):
    balancer = make(kind)
    _, before = run(balancer, [random_stats(2, seed) for seed in range(4)])
    _, after = step(balancer, random_stats(2, 9, active=[True, False]), before)
    for name, value in by_task(before, 2).items():
        np.testing.assert_array_equal(value[..., 1], after[name][..., 1], err_msg=name)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_a_batch_without_any_label_changes_no_weight_and_no_tasks_state(kind):
    balancer = make(kind)
    nothing = random_stats(3, 9, active=[False, False, False])
    weights, state = run(balancer, [nothing])
    np.testing.assert_array_equal(weights, np.ones(3))
    assert all(np.isfinite(value).all() for value in state.values() if value.dtype.is_floating)
    _, before = run(balancer, [random_stats(3, seed) for seed in range(4)])
    weights, after = step(balancer, nothing, before)
    np.testing.assert_array_equal(weights, np.ones(3))
    for name, value in by_task(before, 3).items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_zero_gradients_and_losses_give_finite_weights(kind):
    stats = random_stats(3)
    gram = stats.gram_TT * tf.constant([[1.0, 0, 1], [0, 0, 0], [1, 0, 1]])
    weights, _ = run(make(kind), [stats._replace(gram_TT=gram)] * 3)
    assert np.isfinite(weights).all()
    weights, _ = run(make(kind), [stats._replace(gram_TT=tf.zeros((3, 3)), losses_T=tf.zeros(3))] * 5)
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("kind", [kind for kind in SUBJECTS if kind != "rlw"])
def test_identical_tasks_weigh_the_same(kind):
    stats = Stats(tf.fill([3], 0.7), tf.ones(3, tf.bool), tf.fill([3, 3], 2.0), tf.constant(0, tf.int64))
    balancer, weights = make(kind), tf.zeros(3)
    state = balancer.init(3)
    for _ in range(5):
        weights, state = balancer.update(stats, state)
        state = balancer.observe(0.9 * stats.losses_T, stats, state)
    np.testing.assert_allclose(weights, tf.fill([3], weights[0]), rtol=1e-6)


def turned(stats):
    return Stats(stats.losses_T[::-1], stats.active_T[::-1], stats.gram_TT[::-1, ::-1], stats.step)


def in_both_orders(balancer):
    """The weights of two tasks after six steps, and those of the tasks in the other order, turned back."""
    batches = [random_stats(2, seed) for seed in range(6)]
    state, turned_state = balancer.init(2), balancer.init(2)
    weights = other = tf.zeros(2)
    for stats in batches:
        weights, state = balancer.update(stats, state)
        other, turned_state = balancer.update(turned(stats), turned_state)
        after = stats.losses_T * [0.9, 0.7]
        state = balancer.observe(after, stats, state)
        turned_state = balancer.observe(after[::-1], turned(stats), turned_state)
    return weights, other[::-1]


@pytest.mark.parametrize("kind", [kind for kind in SUBJECTS if kind not in UNEQUAL])
def test_the_order_of_two_tasks_is_irrelevant(kind):
    first, second = in_both_orders(make(kind))
    np.testing.assert_allclose(first, second, rtol=1e-5)


@pytest.mark.parametrize("kind", sorted(UNEQUAL))
def test_what_is_excepted_from_it_is_really_unequal(kind):
    first, second = in_both_orders(make(kind))
    assert np.abs(first - second).max() > 0.001


@pytest.mark.parametrize("kind", [k for k in SUBJECTS if make(k).grouping(PATHS) is not None])
@pytest.mark.parametrize("jit", [False, True])
def test_a_grouping_gives_weights_for_each_group(kind, jit):
    balancer = make(kind)
    groups = balancer.grouping(PATHS) or ()
    count = max(groups) + 1
    assert len(groups) == len(PATHS)
    assert set(groups) == set(range(count))
    update = tf.function(balancer.update, jit_compile=jit)
    state = balancer.init_groups(3, count)
    for seed in range(4):
        stats = random_stats(3, seed, active=[True, seed != 2, True], groups=count)
        weights, new_state = update(stats, state)
        assert weights.shape == (count, 3)
        assert np.isfinite(weights).all()
        assert form(state) == form(new_state)
        if seed == 2:
            np.testing.assert_array_equal(weights[:, 1], np.ones(count))
            for name, value in by_task(state, 3).items():
                np.testing.assert_array_equal(value[..., 1], new_state[name][..., 1], err_msg=name)
        state = new_state
    # A group is weighed from its own inner products.
    others = tf.concat([stats.gram_GTT[:1], 2 * stats.gram_GTT[1:] + tf.eye(3)], axis=0)
    np.testing.assert_allclose(update(stats._replace(gram_GTT=others), state)[0][0], update(stats, state)[0][0])


@pytest.mark.parametrize("kind", sorted(set(WRAPPERS) - {"by_group"}))
def test_a_wrapper_takes_weights_by_group(kind):
    balancer = WRAPPERS[kind](BALANCERS["metabalance"](), **ARGUMENTS.get(kind, {}))
    count = len(PATHS)
    update = tf.function(balancer.update, jit_compile=True)
    state = balancer.init_groups(4, count)
    for seed in range(3):
        weights, new_state = update(random_stats(4, seed, groups=count), state)
        assert weights.shape == (count, 4)
        assert np.isfinite(weights).all()
        assert form(state) == form(new_state)
        state = new_state


@pytest.mark.parametrize("kind", sorted(set(WRAPPERS) - {"by_group"}))
@pytest.mark.parametrize("inner", METHODS)
def test_a_wrapper_passes_through_what_the_method_asks_for(kind, inner):
    method = BALANCERS[inner]()
    balancer = WRAPPERS[kind](method)
    assert balancer.reevaluates == method.reevaluates
    assert balancer.grouping(PATHS) == method.grouping(PATHS)
    assert balancer.needs == "gram" or method.needs == "losses"
    assert balancer.heads == ("weighted" if method.needs == "losses" else method.heads)
    inner_state = method.init(3)
    assert {name.removeprefix("inner."): value for name, value in form(balancer.init(3)).items()
            if name.startswith("inner.")} == form(inner_state)  # fmt: skip


@pytest.mark.parametrize("kind", SUBJECTS)
def test_a_balancer_is_read_back_from_its_config(kind):
    balancer = make(kind)
    assert get_balancer(balancer_config(balancer)) == balancer


@pytest.mark.parametrize("kind", METHODS)
def test_the_defaults_of_a_section_are_those_of_the_method(kind):
    section = TypeAdapter(Balance).validate_python({"kind": kind})
    assert build_balancer(section, ["a", "b"]) == BALANCERS[kind]()


def test_every_section_is_a_method():
    schema = TypeAdapter(Balance).json_schema()
    assert sorted(schema["discriminator"]["mapping"]) == METHODS
