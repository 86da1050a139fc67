"""The formula of each optimizer of embedding tables against plain NumPy, and against Keras where it is the same."""

import math
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from onehull.optimizers import (
    EMBEDDING_OPTIMIZERS,
    FTRL,
    SGD,
    Adagrad,
    LazyAdam,
    RowwiseAdagrad,
    WarmupDecay,
    dense_optimizer,
    embedding_optimizer,
    get_embedding_optimizer,
)
from onehull.spec.training import Training

BATCHES = [[1, 4, 1], [4], [0, 4, 4, 1], [2]]
"""Rows that each step looks up."""


def gradients(scale=1.0):
    rng = np.random.default_rng(0)
    return [(np.array(rows), (scale * rng.normal(size=(len(rows), 2))).astype("float32")) for rows in BATCHES]


def first_rows():
    return np.random.default_rng(1).normal(size=(6, 2)).astype("float32")


def trained(optimizer, batches):
    variable = keras.Variable(first_rows())
    for rows, values in batches:
        optimizer.apply([tf.IndexedSlices(tf.constant(values), tf.constant(rows, tf.int32))], [variable])
    return variable.numpy()


def reference(move, batches):
    """The rows after ``move(row, gradient, state of the row, number of the step)`` of each row that comes."""
    table = first_rows().astype("float64")
    states: list[dict] = [{} for _ in range(6)]
    for number, (rows, values) in enumerate(batches, 1):
        for row in np.unique(rows):
            table[row] = move(table[row], values[rows == row].astype("float64").sum(0), states[row], number)
    return table


def test_rowwise_adagrad():
    def move(row, gradient, state, _):
        state["a"] = state.get("a", 0.5) + np.mean(gradient**2)
        return row - 0.3 * gradient / (np.sqrt(state["a"]) + 0.1)

    found = trained(RowwiseAdagrad(0.3, initial_accumulator=0.5, epsilon=0.1), gradients())
    np.testing.assert_allclose(found, reference(move, gradients()), rtol=1e-5)


def test_adagrad():
    def move(row, gradient, state, _):
        state["a"] = state.get("a", 0.5) + gradient**2
        return row - 0.3 * gradient / (np.sqrt(state["a"]) + 0.1)

    found = trained(Adagrad(0.3, initial_accumulator=0.5, epsilon=0.1), gradients())
    np.testing.assert_allclose(found, reference(move, gradients()), rtol=1e-5)


def test_lazy_adam():
    def move(row, gradient, state, number):
        state["m"] = 0.8 * state.get("m", 0) + 0.2 * gradient
        state["v"] = 0.9 * state.get("v", 0) + 0.1 * gradient**2
        rate = 0.3 * np.sqrt(1 - 0.9**number) / (1 - 0.8**number)
        return row - rate * state["m"] / (np.sqrt(state["v"]) + 1e-4)

    found = trained(LazyAdam(0.3, beta_1=0.8, beta_2=0.9, epsilon=1e-4), gradients())
    np.testing.assert_allclose(found, reference(move, gradients()), rtol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_sgd(momentum):
    def move(row, gradient, state, _):
        state["v"] = momentum * state.get("v", 0) - 0.3 * gradient
        return row + state["v"]

    found = trained(SGD(0.3, momentum=momentum), gradients())
    np.testing.assert_allclose(found, reference(move, gradients()), rtol=1e-5)


def ftrl_of_the_paper(rate, beta, l1, l2):
    """Algorithm 1 of McMahan et al. (2013), as it is written."""

    def move(row, gradient, state, _):
        n, z = state.get("n", 0.0), state.get("z", 0.0)
        z = z + gradient - (np.sqrt(n + gradient**2) - np.sqrt(n)) / rate * row
        n = n + gradient**2
        state.update(n=n, z=z)
        return np.where(np.abs(z) <= l1, 0, -(z - np.sign(z) * l1) / ((beta + np.sqrt(n)) / rate + l2))

    return move


def test_ftrl_of_rows_that_start_at_zero():
    variable, optimizer = keras.Variable(np.zeros((6, 2), "float32")), FTRL(0.3, beta=0.2, l1=0.4, l2=0.1)
    move, table = ftrl_of_the_paper(0.3, 0.2, 0.4, 0.1), np.zeros((6, 2))
    states: list[dict] = [{} for _ in range(6)]
    for rows, values in gradients():
        optimizer.apply([tf.IndexedSlices(tf.constant(values), tf.constant(rows, tf.int32))], [variable])
        for row in np.unique(rows):
            table[row] = move(table[row], values[rows == row].sum(0), states[row], None)
    np.testing.assert_allclose(variable.numpy(), table, rtol=1e-4, atol=1e-7)
    assert np.any((table == 0) & (variable.numpy() == 0) & np.isin(np.arange(6), [0, 1, 2, 4])[:, None])


def test_ftrl_starts_from_the_first_values_of_a_row():
    """Without penalties it is Adagrad, under a schedule too."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.3, 1, 0.5)
    found = trained(FTRL(schedule, beta=0.1), gradients())
    np.testing.assert_allclose(found, trained(Adagrad(schedule, epsilon=0.1), gradients()), rtol=1e-4)


def test_the_penalty_of_ftrl_makes_zeros():
    found = trained(FTRL(0.3, l1=100.0), gradients())
    assert np.all(found[[0, 1, 2, 4]] == 0)
    np.testing.assert_array_equal(found[[3, 5]], first_rows()[[3, 5]])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (LazyAdam(0.01), keras.optimizers.Adam(0.01)),
        (SGD(0.3, momentum=0.9), keras.optimizers.SGD(0.3, momentum=0.9)),
        (SGD(0.3, momentum=0.0), keras.optimizers.SGD(0.3)),
        (Adagrad(0.1, 0.1, epsilon=0), keras.optimizers.Adagrad(0.1, 0.1, epsilon=0)),
    ],
)
def test_where_all_rows_are_looked_up_it_is_that_of_keras(ours, theirs):
    found, expected = keras.Variable(first_rows()), keras.Variable(first_rows())
    for seed in range(3):
        gradient = tf.constant(np.random.default_rng(seed).normal(size=(6, 2)), tf.float32)
        ours.apply([tf.IndexedSlices(gradient, tf.range(6))], [found])
        theirs.apply([gradient], [expected])
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_one_step_of_rowwise_adagrad_has_the_length_of_its_rate():
    """The start at 0 makes the first step independent of the scale of the loss."""
    for scale in (1e-6, 1.0):
        moved = trained(RowwiseAdagrad(0.01, epsilon=0), gradients(scale)[:1]) - first_rows()
        np.testing.assert_allclose(np.sqrt(np.mean(moved[[1, 4]] ** 2, axis=1)), 0.01, rtol=1e-3)


def test_slots_are_found_by_their_variable():
    wide, narrow = keras.Variable(np.ones((5, 3)), name="wide"), keras.Variable(np.ones((4, 2)), name="narrow")
    optimizer = RowwiseAdagrad(initial_accumulator=0.25)
    optimizer.build([wide, narrow])
    slots = optimizer.slots_of(narrow)
    assert list(slots) == ["accumulator"]
    assert slots["accumulator"].shape == (4,)
    assert np.all(slots["accumulator"].numpy() == 0.25)
    assert optimizer.slots_of(wide)["accumulator"].path.endswith("wide_accumulator")
    assert SGD(momentum=0.0).slots((5, 3)) == {}


def test_the_page_says_what_each_method_keeps():
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "embeddings.md").read_text(encoding="utf-8")
    written = dict(re.findall(r"^\| `(\w+)` \| ([\dd ]+) \|", page, re.MULTILINE))
    assert set(written) == set(EMBEDDING_OPTIMIZERS)
    for kind, make in EMBEDDING_OPTIMIZERS.items():
        numbers = sum(math.prod(slot.shape[1:]) for slot in make().slots((1000, 16)).values())
        factor, _, width = written[kind].partition(" ")
        assert 4 * numbers == int(factor) * (16 if width == "d" else 1), kind


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RowwiseAdagrad(epsilon=-1), "RowwiseAdagrad.epsilon must be a number of at least 0. Received -1"),
        (lambda: Adagrad(initial_accumulator=float("nan")), "Adagrad.initial_accumulator must be a number"),
        (lambda: LazyAdam(beta_2=1.0), "LazyAdam.beta_2 must be at least 0 and below 1. Received 1.0"),
        (lambda: SGD(momentum=1.5), "SGD.momentum must be at least 0 and below 1"),
        (lambda: FTRL(l1=-0.1), "FTRL.l1 must be a number of at least 0"),
        (lambda: get_embedding_optimizer("rowwise_adagrat"), "Did you mean 'rowwise_adagrad'?"),
        (lambda: get_embedding_optimizer({"kind": "sgd", "momentun": 0.9}), "momentun"),
        (lambda: WarmupDecay(0.1, "cosin"), "Did you mean 'cosine'?"),
        (lambda: WarmupDecay(0.1, "linear", decay_steps=0), "WarmupDecay.decay_steps must be a number of at least 1"),
        (lambda: WarmupDecay(0.1, end=1.0), "WarmupDecay.end must be at least 0 and below 1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011  the message is compared below
        make()
    assert message in str(error.value)


def test_a_constraint_on_a_table_is_refused():
    layer = keras.layers.Embedding(5, 2, embeddings_constraint="non_neg")
    layer.build(None)
    gradient = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([1]))
    with pytest.raises(ValueError, match=r"embeddings must have no constraint.*Remove the constraint"):
        RowwiseAdagrad().apply([gradient], [layer.embeddings])


@pytest.mark.parametrize(
    ("kind", "factors"),
    [
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("linear", [0.25, 0.5, 0.75, 1, 1, 0.55, 0.1, 0.1]),
        ("cosine", [0.25, 0.5, 0.75, 1, 1, 0.55, 0.1, 0.1]),
        ("exponential", [0.25, 0.5, 0.75, 1, 1, 0.1**0.5, 0.1, 0.1]),
        ("inverse_sqrt", [0.25, 0.5, 0.75, 1, 1, 1.5**-0.5, 2**-0.5, 2.5**-0.5]),
    ],
)
def test_schedules(kind, factors):
    schedule = WarmupDecay(2.0, kind, warmup_steps=4, decay_steps=2, end=0.1)
    found = [float(schedule(step)) for step in range(8)]
    np.testing.assert_allclose(found, 2 * np.array(factors), rtol=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert [float(again(step)) for step in range(8)] == found
    assert float(schedule(10**6)) == pytest.approx(2.0 if kind == "constant" else 0.2, rel=1e-5)


def test_a_spec_names_both_optimizers():
    training = Training(optimizer="sgd", learning_rate=0.5, embedding_optimizer="adagrad", average=0.99, clip_norm=1.0)
    dense, embedding = dense_optimizer(training), embedding_optimizer(training)
    assert isinstance(dense, keras.optimizers.SGD)
    assert (float(dense.learning_rate), dense.use_ema, dense.ema_momentum) == (0.5, True, 0.99)
    assert dense.global_clipnorm is None
    assert isinstance(embedding, Adagrad)
    assert float(embedding.learning_rate) == pytest.approx(float(Adagrad().learning_rate))


def test_a_spec_may_leave_the_tables_to_the_dense_optimizer():
    training = Training(embedding_optimizer="same")
    assert embedding_optimizer(training) is None
    assert not dense_optimizer(training).use_ema


def test_the_schedule_of_a_spec_is_that_of_both():
    schedule = {"kind": "linear", "warmup_steps": 2, "decay_steps": 10, "end": 0.5}
    training = Training(learning_rate=0.5, embedding_learning_rate=0.1, schedule=schedule)  # type: ignore[arg-type]
    for optimizer, rate in ((dense_optimizer(training), 0.5), (embedding_optimizer(training), 0.1)):
        assert optimizer is not None
        assert float(optimizer.learning_rate) == pytest.approx(rate / 2)
        optimizer.iterations.assign(20)
        assert float(optimizer.learning_rate) == pytest.approx(rate / 2)
        optimizer.iterations.assign(2)
        assert float(optimizer.learning_rate) == pytest.approx(rate)
