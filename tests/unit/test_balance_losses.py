"""Methods on losses, GradNorm and MetaBalance against hand-checked values.

The golden values are those of losses L = (0.9, 0.3) with L(0) = (1, 0.6), and of gradients (2, 0) and (−1, 1).
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from onehull.balance import BALANCERS, Famo, Gls, GradNorm, ImtlL, MetaBalance, Rlw, Static, Stats, Stch, Uw
from onehull.balance.draws import random_normals
from onehull.balance.presence import active_softmax

LOSSES, INITIAL = (0.9, 0.3), (1.0, 0.6)
ROWS = ((2.0, 0.0), (-1.0, 1.0))

compilers = pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
dtypes = pytest.mark.parametrize("dtype", [tf.float32, tf.float64])


def compiled(function, mode):
    return function if mode == "eager" else tf.function(function, jit_compile=mode == "xla")


def stats_of(losses=LOSSES, dtype=tf.float32, active=None, rows=None, step=0):
    """Statistics of one step; without rows, the gradients are those of the golden values for every task."""
    tasks = len(losses)
    present = tf.ones(tasks, tf.bool) if active is None else tf.constant([bool(value) for value in active])
    matrix = tf.constant(ROWS if rows is None else rows, dtype)
    gram = tf.matmul(matrix, matrix, transpose_b=True) if len(matrix) == tasks else None
    return Stats(tf.constant(losses, dtype), present, gram, tf.constant(step, tf.int64))


def after(balancer, batches):
    """The weights of the last step, and the state after it."""
    state, weights = balancer.init(batches[0].losses_T.shape[0]), tf.zeros(0)
    for stats in batches:
        weights, state = balancer.update(stats, state)
    return weights, state


@compilers
@dtypes
@pytest.mark.parametrize(
    ("balancer", "weights"),
    [
        (Static((2.0, 0.5)), (2, 0.5)),
        (Static((2.0, 0.5), reference="initial"), (2 / 0.9, 0.5 / 0.3)),
        (Uw(), (0.5, 0.5)),
        (Uw(start=-0.5), (0.824361, 0.824361)),
        (ImtlL(), (1, 1)),
        (Gls(), (0.288675, 0.866025)),
        (Famo(), (0.25, 0.75)),
        (Famo(same_batch=False), (0.25, 0.75)),
        (GradNorm(initial_losses=INITIAL), (1, 1)),
        (MetaBalance(), (1, 1.289949)),
        (MetaBalance(strategy="enlarge"), (1, 1.289949)),
        (MetaBalance(strategy="shrink"), (1, 1)),
        (MetaBalance(target=1, strategy="shrink"), (0.7 * 0.707107 + 0.3, 1)),
        (MetaBalance(target=1, strategy="enlarge"), (1, 1)),
    ],
)
def test_weights_of_the_first_step(balancer, weights, mode, dtype):
    found, _ = compiled(balancer.update, mode)(stats_of(dtype=dtype), balancer.init(2))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, weights, atol=1e-6)


@compilers
@dtypes
def test_uw_descends_to_the_logarithm_of_the_loss(mode, dtype):
    balancer = Uw(learning_rate=0.1)
    update, state = compiled(balancer.update, mode), balancer.init(2)
    _, state = update(stats_of(dtype=dtype), state)
    np.testing.assert_allclose(state["log_variance"], [-0.1 * 0.05, -0.1 * 0.35], atol=1e-6)
    for _ in range(150):
        weights, state = update(stats_of(dtype=dtype), state)
    np.testing.assert_allclose(state["log_variance"], [-0.105361, -1.203973], atol=1e-2)
    objective = tf.reduce_sum(weights * tf.cast(LOSSES, dtype) + tf.cast(state["log_variance"] / 2, dtype))
    np.testing.assert_allclose(objective, 0.345333, atol=1e-4)


def test_uw_is_capped_and_its_start_must_be_within():
    weights, state = after(Uw(learning_rate=1, cap=0.7), [stats_of((1e-6, 50.0))] * 20)
    np.testing.assert_allclose(state["log_variance"], [-0.7, 0.7])
    np.testing.assert_allclose(weights, [np.exp(0.7) / 2, np.exp(-0.7) / 2], rtol=1e-6)
    with pytest.raises(ValueError, match=r"between -cap and cap = 3.0. Received nan"):
        Uw(start=float("nan")).init(2)


@compilers
@dtypes
def test_imtl_l_descends_to_weighted_losses_of_one(mode, dtype):
    balancer = ImtlL(learning_rate=0.1)
    update, state = compiled(balancer.update, mode), balancer.init(2)
    _, state = update(stats_of(dtype=dtype), state)
    np.testing.assert_allclose(state["log_weight"], [0.01, 0.07], atol=1e-6)
    for _ in range(150):
        weights, state = update(stats_of(dtype=dtype), state)
    np.testing.assert_allclose(state["log_weight"], [0.105361, 1.203973], atol=1e-4)
    np.testing.assert_allclose(weights * tf.cast(LOSSES, dtype), [1, 1], atol=1e-4)


def test_imtl_l_is_capped():
    _, state = after(ImtlL(learning_rate=1, cap=0.5), [stats_of((1e-6, 50.0))] * 20)
    np.testing.assert_allclose(state["log_weight"], [0.5, -0.5])


@compilers
@dtypes
@pytest.mark.parametrize("temperature", [0.1, 1.0, 1e4])
def test_stch_compares_with_the_mean_of_the_warm_up(temperature, mode, dtype):
    balancer = Stch(temperature, warmup_steps=2)
    update, state = compiled(balancer.update, mode), balancer.init(2)
    for losses in ((1.2, 0.5), (0.8, 0.7), LOSSES):
        found, state = update(stats_of(losses, dtype), state)
    shares = (np.array(LOSSES) / INITIAL) ** (1 / temperature)
    np.testing.assert_allclose(found, 2 * shares / shares.sum() / LOSSES, rtol=2e-6)
    np.testing.assert_array_equal(state["first_count"], [2, 2])
    if temperature == 1:
        np.testing.assert_allclose(found, [1.428571, 2.380952], atol=1e-6)


def test_a_reference_is_the_mean_of_a_tasks_own_first_steps():
    batches = [stats_of((0.4, 0), active=(1, 0)), stats_of((0.6, 2)), stats_of((0, 4), active=(0, 1))]
    weights, state = after(Static(reference="initial", reference_steps=2), [*batches, stats_of((9, 9))])
    np.testing.assert_allclose(weights, [1 / 0.5, 1 / 3], rtol=1e-6)
    np.testing.assert_array_equal(state["first_count"], [2, 2])


def test_a_loss_that_was_zero_from_the_start_is_not_divided_by():
    weights, _ = after(Static((3.0, 1.0), reference="initial"), [stats_of((0.0, 0.5))])
    np.testing.assert_allclose(weights, [3, 2])


@compilers
@dtypes
def test_rlw_is_the_softmax_of_normal_draws(mode, dtype):
    softmax = compiled(active_softmax, mode)
    normal, everyone = tf.constant([0.5, -0.5], dtype), tf.constant([True, True])
    np.testing.assert_allclose(softmax(normal, everyone), [0.731059, 0.268941], atol=1e-6)
    balancer = Rlw(seed=3)
    weights, state = compiled(balancer.update, mode)(stats_of(dtype=dtype), balancer.init(2))
    expected = 2 * active_softmax(tf.cast(random_normals(tf.constant([3, 0], tf.int64), 2), dtype), everyone)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    np.testing.assert_array_equal(state["seed"], [3, 1])


def test_draws_are_normal_and_the_same_bits_in_every_compiler():
    draws = {
        mode: np.stack([function(tf.constant([5, step], tf.int64)) for step in range(400)])
        for mode, function in (
            (m, compiled(lambda seed: random_normals(seed, 10), m)) for m in ("eager", "graph", "xla")
        )
    }
    np.testing.assert_array_equal(draws["eager"], draws["graph"])
    np.testing.assert_array_equal(draws["eager"], draws["xla"])
    values = np.sort(draws["eager"].reshape(-1))
    # Kolmogorov-Smirnov over 4000 draws: the distance is below 0.0308 with probability 0.999.
    distribution = 0.5 * (1 + tf.math.erf(values / np.sqrt(2)).numpy())
    assert np.abs(distribution - np.arange(1, 4001) / 4000).max() < 0.0308
    assert abs(np.corrcoef(draws["eager"].T)[np.triu_indices(10, 1)]).max() < 0.2


def test_gls_and_famo_of_solved_and_absent_tasks_are_finite():
    for balancer in (Gls(), Famo()):
        weights, _ = after(balancer, [stats_of((0.0, 0.3))])
        assert np.isfinite(weights).all()
        weights, _ = after(balancer, [stats_of((0.3, 0, 0.3), active=(1, 0, 1))])
        np.testing.assert_allclose(weights, [0.5, 1, 0.5], rtol=1e-6)


@compilers
@dtypes
def test_famo_moves_against_the_progress_of_the_same_batch(mode, dtype):
    balancer = Famo()
    stats, state = stats_of(dtype=dtype), balancer.init(2)
    observe = compiled(balancer.observe, mode)
    state = observe(tf.constant([0.85, 0.29], dtype), stats, state)
    np.testing.assert_allclose(state["moment_1"], [0.1 * 0.005814, -0.1 * 0.005814], atol=1e-7)
    np.testing.assert_allclose(state["logits"], [-0.025, 0.025], atol=1e-6)
    np.testing.assert_allclose(active_softmax(state["logits"], stats.active_T), [0.487503, 0.512497], atol=1e-6)


def test_famo_without_a_second_look_takes_the_next_batch_for_it():
    looks, next_batch = Famo(), Famo(same_batch=False)
    assert looks.reevaluates
    assert not next_batch.reevaluates
    _, state = after(next_batch, [stats_of(), stats_of((0.85, 0.29))])
    np.testing.assert_allclose(state["logits"], [-0.025, 0.025], atol=1e-6)
    np.testing.assert_allclose(state["last"], [0.85, 0.29])
    assert next_batch.observe(tf.zeros(2), stats_of(), state) == dict(state)


def test_famo_leaves_tasks_alone_whose_progress_is_not_known():
    balancer = Famo(decay=0.5)
    state = {**balancer.init(3), "logits": tf.constant([0.3, 0.2, 0.1])}
    stats = stats_of((0.9, 0, 0.3), active=(1, 0, 1))
    moved = balancer.observe(tf.constant([0.8, 0, 0.29]), stats, state)
    np.testing.assert_array_equal(moved["moves"], [1, 0, 1])
    assert moved["logits"][1] == state["logits"][1]
    broken = balancer.observe(tf.constant([np.nan, 0, 0.29]), stats, state)
    np.testing.assert_array_equal(broken["moves"], [0, 0, 1])
    assert np.isfinite(broken["logits"]).all()


def test_famo_gives_the_task_that_comes_less_far_more_weight():
    balancer = Famo()
    state = balancer.init(2)
    for _ in range(50):
        weights, state = balancer.update(stats_of((1.0, 1.0)), state)
        state = balancer.observe(tf.constant([0.99, 0.9]), stats_of((1.0, 1.0)), state)
    assert weights[0] > 0.6


@compilers
@dtypes
def test_gradnorm_steps_towards_the_target_norms(mode, dtype):
    balancer = GradNorm(initial_losses=INITIAL)
    _, state = compiled(balancer.update, mode)(stats_of(dtype=dtype), balancer.init(2))
    np.testing.assert_allclose(state["weights"], [1.042367, 0.957633], atol=1e-6)
    weights, _ = balancer.update(stats_of(dtype=dtype), state)
    np.testing.assert_allclose(weights, state["weights"], rtol=1e-6)


@pytest.mark.parametrize(("alpha", "heavier"), [(0.0, 1), (3.0, 0)])
def test_gradnorm_alpha_decides_between_equal_norms_and_equal_paces(alpha, heavier):
    # The first task is slower and has the longer gradient: with 0 the shorter gradient is made up for, with 3 the pace.
    balancer = GradNorm(alpha, learning_rate=0.01, initial_losses=(1.0, 1.0))
    batch = stats_of((0.9, 0.4), rows=((1.2, 0.0), (0.0, 0.9)))
    weights, _ = after(balancer, [batch] * 60)
    assert weights[heavier] > weights[1 - heavier] + 0.05
    np.testing.assert_allclose(tf.reduce_sum(weights), 2, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 1.5])
def test_gradnorm_gives_the_slower_of_like_tasks_the_larger_weight(alpha):
    batch = stats_of((0.5, 0.9), rows=((1.0, 0.0), (0.0, 1.0)))
    weights, _ = after(GradNorm(alpha, initial_losses=(1.0, 1.0)), [batch] * 10)
    assert weights[1] > 1 > weights[0]


def test_gradnorm_measures_the_initial_losses_and_keeps_weights_positive():
    batch = stats_of((1.0, 1.0), rows=((100.0, 0.0), (0.0, 1.0)))
    weights, state = after(GradNorm(learning_rate=1.0, initial_steps=3), [batch] * 8)
    assert weights[0] > 0
    np.testing.assert_array_equal(state["first_count"], [3, 3])
    np.testing.assert_allclose(tf.reduce_sum(state["weights"]), 2, rtol=1e-5)
    for given in ((1.0,), (1.0, 0.0), (1.0, float("inf"))):
        with pytest.raises(ValueError, match="one positive loss for each of 2 tasks"):
            GradNorm(initial_losses=given).init(2)


def test_metabalance_averages_norms_without_a_bias_to_the_start():
    balancer = MetaBalance(relax=1.0, decay=0.5)
    batches = [
        stats_of(active=(1, 0), rows=((4.0, 0.0), (0.0, 0.0))),
        stats_of(rows=((1.0, 0.0), (0.0, 2.0))),
    ]
    weights, state = after(balancer, batches)
    # Norms of the target: 4, then 1, of weights ¼ and ½; of the other: 2 alone.
    np.testing.assert_allclose(weights, [1, (4 * 0.25 + 1 * 0.5) / 0.75 / 2], rtol=1e-6)
    np.testing.assert_allclose(state["mass"], [0.75, 0.5])


def test_metabalance_leaves_a_variable_that_one_of_the_tasks_does_not_reach():
    target_only = tf.constant([[[4.0, 0], [0, 0]], [[0, 0], [0, 9.0]], [[4, 0], [0, 1]]])
    stats = stats_of()._replace(gram_GTT=target_only)
    weights, _ = MetaBalance(relax=1.0).update(stats, MetaBalance().init_groups(2, 3))
    np.testing.assert_allclose(weights, [[1, 1], [1, 1], [1, 2]])


def test_metabalance_refuses_what_is_no_task_and_no_strategy():
    with pytest.raises(ValueError, match="position of one of 2 tasks"):
        MetaBalance(target=2).init(2)
    with pytest.raises(ValueError, match=r"shrink, enlarge or both. Received 'grow'"):
        BALANCERS["metabalance"](strategy="grow").init_groups(2, 3)
