"""Methods on gradients against published and hand-checked values, and where they stop being defined.

E1 is the public fixture of TorchJD, E2 can be checked by hand, E3 depends on itself and contains 0 in its hull, E3b has
three independent gradients.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from onehull.balance.aligned_mtl import AlignedMtl
from onehull.balance.cagrad import CaGrad
from onehull.balance.config import ConFig
from onehull.balance.db_mtl import DbMtl
from onehull.balance.dualproj import DualProj
from onehull.balance.fairgrad import FairGrad
from onehull.balance.gradcraft import GradCraft
from onehull.balance.gradvac import GradVac
from onehull.balance.imtl_g import ImtlG
from onehull.balance.mgda import Mgda
from onehull.balance.nash_mtl import NashMtl
from onehull.balance.types import Balancer, Stats
from onehull.balance.upgrad import UpGrad

SHARED = Path(__file__).parents[2].parent / "shared" / "golden"
ROWS = {
    "E1": [[-4, 1, 1], [6, 1, 1]],
    "E2": [[2, 0], [-1, 1]],
    "E3": [[1, 0], [-1, 1], [0, -2]],
    "E3b": [[1, 0, 1], [-1, 2, 0], [0, -1, 3]],
    "parallel": [[1, 0], [2, 0]],
    "opposite": [[1, 0], [-1, 0]],
    "half opposite": [[1, 0], [-1, 0], [0, 1]],
}

GOLDEN: list[tuple[Balancer, dict[str, list[float]]]] = [
    (GradVac(), {"E1": [2.222222, 1.578947], "E2": [1.5, 2.0]}),
    (Mgda(), {"E1": [0.6, 0.4], "E2": [0.4, 0.6], "E3": [0.4, 0.4, 0.2], "E3b": [2 / 3, 1 / 3, 0]}),
    (CaGrad(0.5), {"E1": [0.563299, 0.4], "E2": [0.4, 0.6], "E3b": [0.554213, 0.499329, 0.266667]}),
    (
        ImtlG(),
        {
            "E1": [0.592330, 0.407670],
            "E2": [0.414214, 0.585786],
            "E3": [0.4, 0.4, 0.2],
            "E3b": [0.418343, 0.425051, 0.156606],
            "parallel": [1 / 3, 2 / 3],
            "opposite": [0.5, 0.5],
        },
    ),
    (
        NashMtl(None),
        {"E1": [0.591461, 0.407071], "E2": [0.923880, 1.306563], "E3b": [0.645912, 0.583792, 0.280056]},
    ),
    (
        FairGrad(2.0, None),
        {"E1": [0.471363, 0.319454], "E2": [0.942321, 1.369568], "E3b": [0.631591, 0.478580, 0.157898]},
    ),
    (
        AlignedMtl(),
        {
            "E1": [1.118144, 0.816522],
            "E2": [0.829180, 1.105573],
            "E3b": [0.794527, 0.562628, 0.209180],
            "parallel": [0.6, 1.2],
            "opposite": [0, 0],
        },
    ),
    (
        UpGrad(),
        {
            "E1": [1.111111, 0.789474],
            "E2": [0.75, 1.0],
            "E3": [4 / 3, 4 / 3, 2 / 3],
            "E3b": [0.454545, 0.533333, 0.363636],
            "opposite": [1, 1],
        },
    ),
    (
        DualProj(),
        {"E1": [0.611111, 0.5], "E2": [0.5, 0.5], "E3": [2 / 3, 2 / 3, 1 / 3], "E3b": [1 / 3, 1 / 3, 1 / 3]},
    ),
    (
        ConFig(),
        {
            "E1": [1.226483, 0.844124],
            "E2": [0.853553, 1.207107],
            "E3b": [1.398901, 1.421334, 0.523678],
            "opposite": [0, 0],
        },
    ),
    (DbMtl(log=False), {"E1": [1.452966, 1.0], "E2": [1.0, 1.414214]}),
    (
        GradCraft(),
        {"E1": [2.675189, 1.841191], "E2": [1.707107, 2.414214], "E3b": [2.750327, 2.261427, 1.128565]},
    ),
]
NAMES = [type(balancer).__name__ for balancer, _ in GOLDEN]
MODES = {
    "eager": lambda update: update,
    "graph": tf.function,
    "xla": lambda update: tf.function(update, jit_compile=True),
}


def stats_of(rows, dtype=tf.float64, losses=None):
    matrix = np.array(rows, float)
    tasks = len(matrix)
    losses = np.ones(tasks) if losses is None else losses
    gram = tf.constant(matrix @ matrix.T, dtype)
    return Stats(tf.constant(losses, dtype), tf.ones(tasks, tf.bool), gram, tf.constant(0, tf.int64))


def with_absent(stats, tasks=3):
    """The same with tasks before them that are not in the batch, so that one compiled function serves all fixtures."""
    more = tasks - stats.losses_T.shape[0]
    return Stats(
        tf.pad(stats.losses_T, [[more, 0]]),
        tf.pad(stats.active_T, [[more, 0]]),
        tf.pad(stats.gram_TT, [[more, 0], [more, 0]]),
        stats.step,
    )


def weights_of(balancer, rows, losses=None):
    weights, _ = balancer.update(stats_of(rows, losses=losses), balancer.init(len(rows)))
    return weights.numpy()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize(("balancer", "golden"), GOLDEN, ids=NAMES)
def test_golden_values(mode, dtype, balancer, golden):
    update = MODES[mode](balancer.update)
    for fixture, expected in golden.items():
        weights, _ = update(with_absent(stats_of(ROWS[fixture], dtype)), balancer.init(3))
        assert weights.dtype == dtype
        np.testing.assert_allclose(weights[3 - len(expected) :], expected, atol=1e-6, err_msg=fixture)
        np.testing.assert_array_equal(weights[: 3 - len(expected)], 1)


@pytest.mark.parametrize(
    ("balancer", "rows", "expected"),
    [
        (Mgda(normalize=True), "E2", [0.25, 0.353553]),
        (Mgda((0.2, 0.2)), "E1", [0.6, 0.4]),
        (Mgda((0.2, 0.2)), "E2", [0.4, 0.6]),
        (Mgda((0.5, 0.2)), "E2", [0.5, 0.5]),
        (Mgda((0.3, 0.7)), "E2", [0.3, 0.7]),
        (CaGrad(0.4), "E1", [0.571810, 0.431034]),
        (CaGrad(0.4), "E2", [0.431034, 0.603448]),
        (CaGrad(0.5, "none"), "E1", [0.704124, 0.5]),
        (CaGrad(0.5, "none"), "E2", [0.5, 0.75]),
        (CaGrad(0.5, "linear"), "E2", [1 / 3, 0.5]),
        (CaGrad(0.0), "E2", [0.5, 0.5]),
        (CaGrad(0.5), "half opposite", [0.8 / 3] * 3),
        (FairGrad(0.5, None), "E2", [0.917774, 1.241940]),
        (FairGrad(1.0, None), "E2", [0.923880, 1.306563]),
        (AlignedMtl("rmse"), "E2", [1.643168, 2.190890]),
        (AlignedMtl("median"), "E2", [1.643168, 2.190890]),
        (GradCraft(epsilon=0.1), "E2", [1.807107, 2.555635]),
        (GradCraft(tau=0.0), "E2", [1.5, 2.0]),
        (GradVac(), "half opposite", [2, 2, 1]),
    ],
    ids=str,
)
def test_golden_values_of_arguments(balancer, rows, expected):
    np.testing.assert_allclose(weights_of(balancer, ROWS[rows]), expected, atol=1e-6)


def test_gradvac_turns_to_the_usual_cosine_and_remembers_the_one_it_met():
    balancer = GradVac(beta=0.5)
    start = balancer.init(2)
    _, state = balancer.update(stats_of(ROWS["E2"]), start)
    np.testing.assert_allclose(state["cosines"], [[0, -0.353553], [-0.353553, 0]], atol=1e-6)
    usual = start | {"cosines": tf.constant([[0, 0.2], [0.2, 0]])}
    weights, state = balancer.update(stats_of(ROWS["E2"]), usual)
    np.testing.assert_allclose(weights, [1.602062, 2.204124], atol=1e-6)
    np.testing.assert_allclose(state["cosines"], [[0, -0.253553], [-0.253553, 0]], atol=1e-6)


def test_gradvac_of_tasks_that_stay_identical_stays_finite():
    balancer = GradVac(beta=1.0)
    same, apart = stats_of([[1, 0], [1, 0]], tf.float32), stats_of([[1, 0], [0, 1]], tf.float32)
    weights, state = balancer.update(same, balancer.init(2))
    np.testing.assert_allclose(state["cosines"], [[0, 1], [1, 0]], atol=1e-6)
    weights, _ = balancer.update(apart, state)
    np.testing.assert_allclose(weights, [1 + 0.999 / np.sqrt(1 - 0.999**2)] * 2, rtol=1e-5)


def test_db_mtl_balances_the_logarithms_of_losses():
    np.testing.assert_allclose(weights_of(DbMtl(), ROWS["E2"], [0.9, 0.3]), [2.357023, 3.333333], atol=1e-6)
    assert np.isfinite(weights_of(DbMtl(), ROWS["E2"], [0.0, -0.3])).all()


def test_gradcraft_averages_the_norms_of_steps_with_a_gradient():
    balancer = GradCraft(decay=0.5)
    _, state = balancer.update(stats_of([[2, 0], [0, 1]]), balancer.init(2))
    np.testing.assert_allclose(state["norms"], [2, 1])
    _, state = balancer.update(stats_of([[0, 0], [0, 3]]), state)
    np.testing.assert_allclose(state["norms"], [2, 2])
    weights, state = balancer.update(stats_of([[4, 0], [0, 2]]), state)
    np.testing.assert_allclose(state["norms"], [3, 2])
    np.testing.assert_allclose(weights, [1, 1.5])


def test_gradcraft_leaves_no_cosine_that_cannot_be_left():
    # The others conflict with the first, and one is minus the sum of the other two: 0.1 with all three is impossible.
    rows = np.array([[1, 0, 0], [-1, 1, 0], [-1, -0.5, 0.8], [-1, -0.5, -0.8], [-2, 0.5, 0.8]])
    assert np.abs(weights_of(GradCraft(epsilon=0.1), rows)).max() < 100


@pytest.mark.parametrize("fixture", ["E3", "opposite", "half opposite"])
@pytest.mark.parametrize("method", [NashMtl, FairGrad])
def test_the_cap_bounds_weights_where_gradients_cancel(method, fixture):
    rows = np.array(ROWS[fixture], float)
    weights = weights_of(method(), rows)
    norms = np.linalg.norm(rows, axis=1)
    assert (weights > 0).all()
    assert np.linalg.norm(weights * norms) <= 10 * np.linalg.norm(norms) + 1e-9
    assert np.linalg.norm(weights @ rows) <= np.linalg.norm(rows.sum(axis=0)) + 1e-9


def test_the_cap_is_a_length_in_lengths_of_the_plain_sum():
    rows = np.array(ROWS["E3b"]) * 0.01
    plain = np.linalg.norm(rows.sum(axis=0))
    free = weights_of(NashMtl(None), rows)
    assert np.linalg.norm(free @ rows) > 2 * plain
    for max_norm in (1.0, 2.0):
        capped = weights_of(NashMtl(max_norm), rows)
        np.testing.assert_allclose(np.linalg.norm(capped @ rows), max_norm * plain, rtol=1e-9)
        np.testing.assert_allclose(capped / capped[0], free / free[0], rtol=1e-9)


def test_imtl_g_falls_back_where_the_weights_nearly_cancel():
    # Projections of 1 on all three directions need weights of 15, 15 and −20 over the last norm.
    rows = np.array([[1, 0, 0], [0, 1, 0], [0.7, 0.7, np.sqrt(0.02)]])
    np.testing.assert_allclose(weights_of(ImtlG(), rows), [1.5, 1.5, -2], atol=1e-6)
    np.testing.assert_allclose(weights_of(ImtlG(), rows * [[1], [1], [2 / 3]]), [1 / 3] * 3)


def test_only_bounds_make_the_heads_of_mgda_weighted():
    assert Mgda().heads == Mgda((0.0, 0.0)).heads == "own"
    assert Mgda((0.1, 0.0)).heads == NashMtl().heads == FairGrad().heads == "weighted"


@pytest.mark.parametrize(
    ("balancer", "message"),
    [
        (Mgda((0.2,)), "one bound for each of 2 tasks"),
        (Mgda((0.6, 0.6)), r"sum to at most 1.*whose sum is 1\.2"),
        (Mgda((-0.1, 0.2)), "0 or more"),
        (CaGrad(1.0), "CaGrad.c must be from 0"),
        (CaGrad(rescale="cubic"), "none, square or linear. Received 'cubic'"),  # type: ignore[arg-type]
        (NashMtl(0.0), "NashMtl.max_norm must be above 0"),
        (FairGrad(max_norm=-1.0), "FairGrad.max_norm must be above 0"),
        (FairGrad(0.0), "FairGrad.alpha must be above 0"),
        (AlignedMtl("max"), "min, median or rmse. Received 'max'"),  # type: ignore[arg-type]
        (GradVac(beta=2.0), "GradVac.beta must be from 0 to 1"),
        (GradCraft(tau=1.5), "GradCraft.tau must be from 0 to 1"),
        (GradCraft(decay=1.0), "GradCraft.decay must be from 0"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(balancer, message):
    with pytest.raises(ValueError, match=message):
        balancer.init(2)


def test_values_of_the_shared_fixtures():
    if not (SHARED / "balancers.json").is_file():
        pytest.skip(f"{SHARED} is not here: the fixtures are not part of the repository")
    first = json.loads((SHARED / "balancers.json").read_text())
    more = json.loads((SHARED / "balancers_more.json").read_text())
    named = dict(zip(NAMES, [balancer for balancer, _ in GOLDEN], strict=True))
    keys = {
        "gradvac_rho0 E1_gradvac0": "GradVac",
        "mgda E3_mgda E3b_mgda E1_mgda": "Mgda",
        "cagrad_c0.5_rescale1 E3b_cagrad_.5_r1 E1_cagrad_05_r1": "CaGrad",
        "imtl_g E3b_imtl_g E1_imtl_g": "ImtlG",
        "nash E3b_nash E1_nash": "NashMtl",
        "fairgrad_a2 E3b_fairgrad_a2 E1_fairgrad2": "FairGrad",
        "aligned_min_pref_ones E3b_aligned_ones E1_aligned_min_ones": "AlignedMtl",
        "upgrad_exact E3_upgrad_exact E3b_upgrad_exact E1_upgrad": "UpGrad",
        "dualproj_exact E3_dualproj_exact E3b_dualproj_exact E1_dualproj": "DualProj",
        "config E3b_config E1_config": "ConFig",
        "E1_dbmtl_nolog": "DbMtl",
        "gradcraft_tau1_eps0(sum) E3b_gradcraft E1_gradcraft": "GradCraft",
    }
    for names, method in keys.items():
        for name in names.split():
            golden = (first | more)[name]
            rows = ROWS[name.split("_")[0] if name.startswith("E") else "E2"]
            weights = weights_of(named[method], rows)
            np.testing.assert_allclose(weights, golden["w"], atol=1e-6, err_msg=name)
            np.testing.assert_allclose(weights @ np.array(rows, float), golden["g"], atol=4e-6, err_msg=name)
    np.testing.assert_allclose(weights_of(ImtlG(), ROWS["E3"]), more["IMTL_orig_E3"], atol=1e-6)
