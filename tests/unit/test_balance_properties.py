"""What holds of the methods on gradients for any gradients: order, scale, conflict, agreement with SciPy's solvers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize, nnls  # type: ignore[import-untyped]

from onehull.balance.aligned_mtl import AlignedMtl
from onehull.balance.cagrad import CaGrad
from onehull.balance.config import ConFig
from onehull.balance.db_mtl import DbMtl
from onehull.balance.dualproj import DualProj
from onehull.balance.fairgrad import FairGrad
from onehull.balance.gradcraft import GradCraft
from onehull.balance.imtl_g import ImtlG
from onehull.balance.mgda import Mgda
from onehull.balance.nash_mtl import NashMtl
from onehull.balance.pcgrad import PCGrad
from onehull.balance.spectrum import spectrum
from onehull.balance.types import Stats
from onehull.balance.upgrad import UpGrad

E3B = np.array([[1.0, 0, 1], [-1, 2, 0], [0, -1, 3]])
SYMMETRIC = [
    AlignedMtl(),
    CaGrad(0.5),
    ConFig(),
    DbMtl(),
    DualProj(),
    FairGrad(),
    GradCraft(),
    ImtlG(),
    Mgda(),
    NashMtl(),
    UpGrad(),
]


@cache
def compiled(balancer):
    return tf.function(balancer.update)


def weights_of(balancer, rows, dtype=tf.float64):
    tasks = len(rows)
    losses, active = tf.constant(np.linspace(1, 2, tasks), dtype), tf.ones(tasks, tf.bool)
    stats = Stats(losses, active, tf.constant(rows @ rows.T, dtype), tf.constant(0, tf.int64))
    return compiled(balancer)(stats, balancer.init(tasks))[0].numpy()


def update_of(balancer, rows):
    return weights_of(balancer, rows) @ rows


def cosine(one, other):
    return one @ other / (np.linalg.norm(one) * np.linalg.norm(other))


def random_rows(rng, tasks, size, spread=1.0):
    return rng.normal(size=(tasks, size)) * np.exp(spread * rng.normal(size=(tasks, 1)))


@pytest.mark.parametrize("balancer", [b for b in SYMMETRIC if b != DbMtl()], ids=str)
def test_the_order_of_tasks_is_irrelevant(balancer):
    rng = np.random.default_rng(1)
    for _ in range(5):
        rows, order = random_rows(rng, 3, 6), rng.permutation(3)
        np.testing.assert_allclose(weights_of(balancer, rows[order]), weights_of(balancer, rows)[order], rtol=1e-6)


@pytest.mark.parametrize(
    ("balancer", "exponent"),
    [
        (PCGrad(), 1),
        (GradCraft(), 1),
        (AlignedMtl(), 1),
        (ImtlG(), 1),
        (CaGrad(0.5), 1),
        (Mgda(), 1),
        (UpGrad(), 1),
        (DualProj(), 1),
        (ConFig(), 1),
        (NashMtl(None), 0),
        (FairGrad(1.0, None), 0),
        (FairGrad(2.0, None), -1 / 3),
        (NashMtl(0.1), 1),
    ],
    ids=str,
)
def test_the_update_grows_with_a_power_of_the_gradients(balancer, exponent):
    np.testing.assert_allclose(update_of(balancer, 3 * E3B), 3**exponent * update_of(balancer, E3B), rtol=1e-6)


@pytest.mark.parametrize(
    ("balancer", "invariant"),
    [
        (GradCraft(), True),
        (ImtlG(), True),
        (NashMtl(None), True),
        (ConFig(), True),
        (Mgda(normalize=True), True),
        (AlignedMtl(), False),
        (CaGrad(0.5), False),
        (Mgda(), False),
        (UpGrad(), False),
        (DualProj(), False),
        (FairGrad(2.0, None), False),
    ],
    ids=str,
)
def test_whether_the_direction_depends_on_the_size_of_single_gradients(balancer, invariant):
    scaled = E3B * [[1], [5], [0.2]]
    assert (cosine(update_of(balancer, scaled), update_of(balancer, E3B)) > 1 - 1e-9) == invariant


@pytest.mark.parametrize("balancer", [Mgda(), UpGrad(), DualProj(), NashMtl(), FairGrad(), ConFig()], ids=str)
def test_no_task_gets_worse(balancer):
    rng = np.random.default_rng(2)
    for _ in range(40):
        rows = random_rows(rng, 3, 6)
        update = update_of(balancer, rows)
        assert min(cosine(row, update) for row in rows) > -1e-6


@pytest.mark.parametrize("balancer", [PCGrad(), GradCraft(), AlignedMtl(), ImtlG(), CaGrad(0.5)], ids=str)
def test_a_task_can_get_worse(balancer):
    # What their pages say; if it stopped being true, the pages would be wrong.
    rng = np.random.default_rng(3)
    updates = [(rows, update_of(balancer, rows)) for rows in (random_rows(rng, 3, 4) for _ in range(150))]
    assert min(cosine(row, update) for rows, update in updates for row in rows) < -0.05


@pytest.mark.parametrize(
    ("balancer", "weight"),
    [
        (AlignedMtl(), 1),
        (CaGrad(0.5), 1.5 / 1.25 / 3),
        (CaGrad(0.5, "none"), 1.5 / 3),
        (CaGrad(0.5, "linear"), 1 / 3),
        (ConFig(), 1),
        (DbMtl(), 1),
        (DualProj(), 1 / 3),
        (FairGrad(max_norm=None), 1),
        (GradCraft(), 1),
        (ImtlG(), 1 / 3),
        (Mgda(), 1 / 3),
        (NashMtl(None), 1),
        (UpGrad(), 1 / 3),
    ],
    ids=str,
)
def test_weights_of_gradients_that_have_nothing_to_do_with_each_other(balancer, weight):
    np.testing.assert_allclose(weights_of(balancer, np.eye(3)), weight, rtol=1e-7)


@pytest.mark.parametrize("balancer", SYMMETRIC, ids=str)
def test_a_gradient_that_is_zero_does_not_move_the_others(balancer):
    rows = random_rows(np.random.default_rng(4), 3, 6)
    with_zero = np.concatenate([rows[:1], np.zeros((1, 6)), rows[1:]])
    losses = tf.constant([1, 9, 1.5, 2], tf.float32)  # in the order of the rows' own losses
    stats = Stats(
        losses, tf.ones(4, tf.bool), tf.constant(with_zero @ with_zero.T, tf.float32), tf.constant(0, tf.int64)
    )
    weights, _ = compiled(balancer)(stats, balancer.init(4))
    assert weights[1] == 1
    np.testing.assert_allclose(tf.gather(weights, [0, 2, 3]), weights_of(balancer, rows, tf.float32), rtol=1e-4)


@pytest.mark.parametrize("tasks", [2, 5, 8, 12])
def test_projections_are_those_of_non_negative_least_squares(tasks):
    rng = np.random.default_rng(tasks)
    for size in (max(1, tasks // 2), tasks, 20):
        rows = random_rows(rng, tasks, size)

        def projected(vector, rows=rows):
            multipliers, _ = nnls(rows.T, -vector)
            return vector + multipliers @ rows

        scale = np.linalg.norm(rows, axis=1).max()
        found = update_of(UpGrad(), rows)
        np.testing.assert_allclose(found / scale, sum(projected(row) for row in rows) / tasks / scale, atol=2e-6)
        found = update_of(DualProj(), rows)
        np.testing.assert_allclose(found / scale, projected(rows.mean(axis=0)) / scale, atol=2e-6)


@pytest.mark.parametrize("tasks", [2, 5, 8, 12])
def test_the_shortest_combination_is_on_the_simplex_and_meets_its_condition(tasks):
    rng, bounds = np.random.default_rng(tasks), tuple(np.linspace(0, 0.8, tasks) / tasks)
    for size in (tasks, 20):
        rows = random_rows(rng, tasks, size)
        for balancer, corners in ((Mgda(), np.eye(tasks)), (Mgda(bounds), (1 - sum(bounds)) * np.eye(tasks) + bounds)):
            weights = weights_of(balancer, rows)
            np.testing.assert_allclose(weights.sum(), 1, rtol=1e-9)
            assert (weights >= np.array(balancer.lower_bounds or 0) - 1e-12).all()
            # No corner of the set lies further down than the solution: it is the shortest (a convex problem).
            shortest = weights @ rows
            assert (corners @ rows @ shortest).min() >= shortest @ shortest * (1 - 1e-5) - 1e-9


@pytest.mark.parametrize("tasks", [2, 5, 12])
@pytest.mark.parametrize("c", [0.4, 0.9])
def test_cagrad_meets_the_value_of_the_dual(tasks, c):
    rng = np.random.default_rng(tasks)
    rows = random_rows(rng, tasks, 15, spread=0.5)
    mean = rows.mean(axis=0)
    radius = c * np.linalg.norm(mean)
    update = update_of(CaGrad(c, "none"), rows)
    np.testing.assert_allclose(np.linalg.norm(update - mean), radius, rtol=1e-6)

    def dual(weights):
        return weights @ rows @ mean + radius * np.linalg.norm(weights @ rows)

    simplex = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    start = np.full(tasks, 1 / tasks)
    found = minimize(dual, start, bounds=[(0, 1)] * tasks, constraints=simplex, options={"ftol": 1e-14, "maxiter": 500})
    np.testing.assert_allclose((rows @ update).min(), found.fun, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_fair_progress_solves_its_equation(alpha):
    rng = np.random.default_rng(5)
    for tasks in (2, 5, 12):
        rows = random_rows(rng, tasks, 3 * tasks, spread=2.0)
        weights = weights_of(FairGrad(alpha, None), rows)
        np.testing.assert_allclose(rows @ rows.T @ weights, weights ** (-1 / alpha), rtol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_spectra_are_exact_to_rounding(jit):
    rng, decompose = np.random.default_rng(6), tf.function(spectrum, jit_compile=jit)
    for tasks, rank in ((1, 1), (2, 1), (5, 3), (8, 8)):
        rows = rng.normal(size=(tasks, rank)) + 2
        values, vectors = (found.numpy() for found in decompose(tf.constant(rows @ rows.T)))
        scale = values[-1] * 1e-14
        np.testing.assert_allclose(vectors * values @ vectors.T, rows @ rows.T, atol=4 * scale)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(tasks), atol=1e-13)
        np.testing.assert_allclose(values, np.linalg.eigvalsh(rows @ rows.T), atol=4 * scale)


@pytest.mark.parametrize("balancer", SYMMETRIC, ids=str)
def test_numbers_that_are_not_finite_stay_with_their_task(balancer):
    rows = random_rows(np.random.default_rng(7), 3, 6)
    gram = rows @ rows.T
    gram[1, :] = gram[:, 1] = np.nan
    stats = Stats(
        tf.constant([1, np.nan, 1.5]), tf.ones(3, tf.bool), tf.constant(gram, tf.float32), tf.constant(0, tf.int64)
    )
    weights, _ = compiled(balancer)(stats, balancer.init(3))
    assert np.isfinite(weights).all()
