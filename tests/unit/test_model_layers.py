"""The layers, each alone."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from onehull.model import BinaryHead, DenseBlock, FeatureEmbeddings, Log1pLoss, MulticlassHead, RegressionHead, Tower
from onehull.spec.inputs import ModelInput

INPUTS = (
    ModelInput(name="user", kind="id", rows=5, dim=3),
    ModelInput(name="tags", kind="ids", rows=6, length=3),
    ModelInput(name="total", kind="ids", rows=6, length=2, pooling="sum"),
    ModelInput(name="age", kind="dense", length=2),
)
VALUES = {
    "user": np.array([0, 4], "int32"),
    "tags": np.array([[2, 3, 0], [0, 0, 0]], "int32"),
    "total": np.array([[2, 3], [5, 0]], "int32"),
    "age": np.array([[0.5, 1.0], [2.0, 3.0]], "float32"),
}


def test_embeddings_pool_bags_and_pass_numbers_in_the_order_of_the_inputs():
    layer = FeatureEmbeddings(INPUTS, dim=2, seed=1)
    found = layer(VALUES).numpy()
    assert set(layer.tables) == {"table_3", "table_2"}  # features of one width share a table
    rows = {
        name: layer.tables[place.table].table.numpy()[place.start :][: place.rows]
        for name, place in layer.places.items()
    }
    tags, total = rows["tags"], rows["total"]
    assert found.shape == (2, 3 + 2 + 2 + 2) == (2, layer.width)
    np.testing.assert_allclose(found[:, :3], rows["user"][[0, 4]])
    np.testing.assert_allclose(found[:, 3:5], [(tags[2] + tags[3]) / 2, [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(found[:, 5:7], [total[2] + total[3], total[5]], rtol=1e-6)
    np.testing.assert_allclose(found[:, 7:], VALUES["age"])


@pytest.mark.parametrize("wrong", [-1, 6, 2**31 - 1])
def test_an_id_outside_of_its_feature_never_reads_the_rows_of_another(wrong):
    layer = FeatureEmbeddings(INPUTS[1:3], dim=2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="is not in"):
        layer({"tags": np.array([[2, wrong, 0]], "int32"), "total": np.array([[1, 2]], "int32")})


def test_the_rows_of_a_feature_do_not_depend_on_the_others():
    one, two = FeatureEmbeddings(INPUTS[2:3], dim=2, seed=1), FeatureEmbeddings(INPUTS[1:3], dim=2, seed=1)
    one.build(None)
    two.build(None)
    np.testing.assert_array_equal(one.weights[0], two.weights[0][6:])


def test_single_ids_and_bags_of_one_table_in_any_order():
    mixed = (INPUTS[1], ModelInput(name="a", kind="id", rows=3), INPUTS[2], ModelInput(name="b", kind="id", rows=3))
    apart = (mixed[0], mixed[2], mixed[1], mixed[3])
    values = {**VALUES, "a": np.array([1, 2], "int32"), "b": np.array([0, 1], "int32")}
    first, second = (FeatureEmbeddings(items, dim=2, seed=1)(values).numpy() for items in (mixed, apart))
    np.testing.assert_array_equal(first[:, [0, 1, 4, 5, 2, 3, 6, 7]], second)


def test_padding_of_a_bag_is_not_trained():
    layer = FeatureEmbeddings(INPUTS[1:2], dim=2)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer({"tags": VALUES["tags"]}))
    gradient = tf.convert_to_tensor(tape.gradient(value, layer.weights[0]))
    assert not gradient[0].numpy().any()
    assert gradient[2].numpy().any()


def test_the_embedding_penalty_moves_only_rows_that_are_looked_up():
    layer = FeatureEmbeddings(INPUTS[:1], dim=2, l2=0.5)
    with tf.GradientTape() as tape:
        layer({"user": np.array([4, 4, 1, 2], "int32")}, training=True)
        (penalty,) = layer.losses
    table = layer.weights[0].numpy()
    assert float(penalty) == pytest.approx(0.5 * (2 * table[4] @ table[4] + (table[[1, 2]] ** 2).sum()) / 4)
    gradient = tf.convert_to_tensor(tape.gradient(penalty, layer.weights[0])).numpy()
    assert not gradient[[0, 3]].any()
    assert gradient[[1, 2, 4]].all()
    layer({"user": np.array([4], "int32")}, training=False)
    assert layer.losses == []


@pytest.mark.parametrize(
    "layer",
    [
        FeatureEmbeddings(INPUTS, dim=2, l2=0.1, seed=3, name="embeddings"),
        DenseBlock(4, "gelu", batch_norm=True, dropout=0.2, l2=0.1, seed=3, name="shared_1"),
        Tower((4, 2), dropout=0.1, seed=3, name="tower_like"),
        BinaryHead(0.2, seed=3, name="like"),
        RegressionHead("log1p", 2.0, seed=3, name="watch"),
        MulticlassHead(3, seed=3, name="category"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_is_made_again_from_its_config(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    inputs = VALUES if isinstance(layer, FeatureEmbeddings) else VALUES["age"]
    np.testing.assert_array_equal(layer(inputs), again(inputs))  # the seed makes the same variables
    assert again.get_config() == layer.get_config()
    assert again.compute_output_shape({k: v.shape for k, v in VALUES.items()} if inputs is VALUES else (2, 2)) == tuple(
        again(inputs).shape
    )


def test_names_tell_what_a_variable_is_for():
    tower = Tower((4, 2), name="tower_like")
    tower.build((None, 3))
    assert [weight.path for weight in tower.weights] == [
        f"tower_like/tower_like_{index}/dense/{part}" for index in (1, 2) for part in ("kernel", "bias")
    ]


def test_units_differ_from_the_start_and_after_training():
    # A layer whose units all start alike keeps them alike: its output has rank 1.
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    inputs = keras.Input((6,), name="x")
    hidden = DenseBlock(8, seed=0, name="shared_1")(inputs)
    model = keras.Model(inputs, BinaryHead(seed=0, name="like")(hidden))
    model.compile("adam", loss="mse", run_eagerly=True)
    model.fit(x, x[:, :1], verbose=0)
    assert np.linalg.matrix_rank(keras.Model(inputs, hidden)(x)) > 1


def test_heads_start_at_their_priors():
    zeros = np.zeros((1, 4), "float32")
    assert BinaryHead(0.03)(zeros).numpy() == pytest.approx(0.03)
    assert 0 < BinaryHead(0.0)(zeros).numpy() < 1e-5
    assert RegressionHead("none", 7.5)(zeros).numpy() == pytest.approx(7.5)
    assert RegressionHead("log1p", math.log1p(9))(zeros).numpy() == pytest.approx(9)


def test_a_log_head_stays_in_range_and_is_pulled_back_into_it():
    head, loss = RegressionHead("log1p"), Log1pLoss(reduction="none")
    head.build((None, 1))
    head.weights[0].assign([[1.0]])
    z = tf.constant([[-40.0], [1.0], [60.0]])
    np.testing.assert_allclose(head(z), np.expm1([[-5.0], [1.0], [20.0]]), rtol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = tf.reduce_sum(loss(tf.constant([[1.0], [1.0], [1.0]]), head(z, training=True)))
    slope = tape.gradient(value, z).numpy().ravel()
    assert slope[0] < 0 < slope[2]
    assert slope[1] == pytest.approx(2 * (1 - math.log(2)), rel=1e-5)


@pytest.mark.parametrize(("kind", "expected"), [("mse", 9.0), ("huber", 2.5)])
def test_log1p_loss_is_taken_on_the_log_scale(kind, expected):
    truth, predicted = np.expm1([[4.0]]), np.expm1([[1.0]])
    assert float(Log1pLoss(kind)(truth, predicted)) == pytest.approx(expected, rel=1e-5)
