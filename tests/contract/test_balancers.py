"""What every balancing method owes, whatever it computes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onehull.balance import BALANCERS, Stats, balancer_config, get_balancer

METHODS = sorted(BALANCERS)


def make(kind):
    return BALANCERS[kind](window_steps=2) if kind == "dwa" else BALANCERS[kind]()


def random_stats(tasks, seed=0, dtype=tf.float32, active=None):
    rng = np.random.default_rng(seed)
    present = np.ones(tasks, bool) if active is None else np.asarray(active)
    rows = rng.normal(size=(tasks, 20)) * present[:, None]
    losses = rng.uniform(0.1, 2, tasks) * present
    gram = tf.constant(rows @ rows.T, dtype)
    return Stats(tf.constant(losses, dtype), tf.constant(present), gram, tf.constant(seed, tf.int64))


def run(balancer, batches):
    state = balancer.init(batches[0].losses_T.shape[0])
    weights = None
    for stats in batches:
        weights, state = balancer.update(stats, state)
    return weights, state


@pytest.mark.parametrize("kind", METHODS)
def test_the_same_arguments_give_the_same_answer(kind):
    balancer = make(kind)
    batches = [random_stats(3, seed) for seed in range(6)]
    (first, first_state), (second, second_state) = run(balancer, batches), run(balancer, batches)
    np.testing.assert_array_equal(first, second)
    for name, value in first_state.items():
        np.testing.assert_array_equal(value, second_state[name])


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("tasks", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_weights_are_finite_and_the_state_keeps_its_form(kind, tasks, dtype):
    balancer = make(kind)
    state = balancer.init(tasks)
    weights, new_state = balancer.update(random_stats(tasks, dtype=dtype), state)
    assert weights.shape == (tasks,)
    assert weights.dtype == dtype
    assert np.isfinite(weights).all()
    assert {k: (v.shape, v.dtype) for k, v in state.items()} == {k: (v.shape, v.dtype) for k, v in new_state.items()}


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("jit", [False, True])
def test_a_compiled_update_is_traced_once_and_equals_the_eager_one(kind, jit):
    balancer, traces = make(kind), []

    def update(stats, state):
        traces.append(1)
        return balancer.update(stats, state)

    compiled = tf.function(update, jit_compile=jit)
    state = eager_state = balancer.init(4)
    for seed in range(5):
        stats = random_stats(4, seed)
        weights, state = compiled(stats, state)
        eager_weights, eager_state = balancer.update(stats, eager_state)
        np.testing.assert_allclose(weights, eager_weights, rtol=1e-5, atol=1e-6)
    assert len(traces) == 1


@pytest.mark.parametrize("kind", METHODS)
def test_one_task_alone_has_weight_one(kind):
    weights, _ = run(make(kind), [random_stats(1, seed) for seed in range(5)])
    np.testing.assert_allclose(weights, [1.0], atol=1e-6)


@pytest.mark.parametrize("kind", METHODS)
def test_an_absent_task_has_weight_one_and_does_not_move_the_others(kind):
    balancer = make(kind)
    batches = [random_stats(3, seed, active=[True, False, True]) for seed in range(6)]
    weights, _ = run(balancer, batches)
    assert weights[1] == 1
    pairs = [
        Stats(
            tf.gather(s.losses_T, [0, 2]),
            tf.gather(s.active_T, [0, 2]),
            tf.gather(tf.gather(s.gram_TT, [0, 2]), [0, 2], axis=1),
            s.step,
        )
        for s in batches
    ]
    without, _ = run(balancer, pairs)
    np.testing.assert_allclose(tf.gather(weights, [0, 2]), without, rtol=1e-5)


@pytest.mark.parametrize("kind", METHODS)
def test_an_absent_task_keeps_its_part_of_the_state(kind):
    balancer = make(kind)
    _, before = run(balancer, [random_stats(2, seed) for seed in range(4)])
    _, after = balancer.update(random_stats(2, 9, active=[True, False]), before)
    for name, value in before.items():
        if value.shape == (2,) and value.dtype.is_floating:
            assert value[1] == after[name][1], name


@pytest.mark.parametrize("kind", METHODS)
def test_zero_gradients_give_finite_weights(kind):
    stats = random_stats(3)
    gram = stats.gram_TT * tf.constant([[1.0, 0, 1], [0, 0, 0], [1, 0, 1]])
    weights, _ = run(make(kind), [stats._replace(gram_TT=gram)] * 3)
    assert np.isfinite(weights).all()
    weights, _ = run(make(kind), [stats._replace(gram_TT=tf.zeros((3, 3)), losses_T=tf.zeros(3))] * 5)
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("kind", METHODS)
def test_identical_tasks_weigh_the_same(kind):
    stats = Stats(tf.fill([3], 0.7), tf.ones(3, tf.bool), tf.fill([3, 3], 2.0), tf.constant(0, tf.int64))
    weights, _ = run(make(kind), [stats] * 5)
    np.testing.assert_allclose(weights, tf.fill([3], weights[0]), rtol=1e-6)


@pytest.mark.parametrize("kind", METHODS)
def test_the_order_of_two_tasks_is_irrelevant(kind):
    batches = [random_stats(2, seed) for seed in range(6)]
    turned = [Stats(s.losses_T[::-1], s.active_T[::-1], s.gram_TT[::-1, ::-1], s.step) for s in batches]
    weights, _ = run(make(kind), batches)
    turned_weights, _ = run(make(kind), turned)
    np.testing.assert_allclose(weights, turned_weights[::-1], rtol=1e-5)


@pytest.mark.parametrize("kind", METHODS)
def test_a_method_is_read_back_from_its_config(kind):
    balancer = make(kind)
    assert get_balancer(balancer_config(balancer)) == balancer
