"""Two optimizers at work: tables by rows, everything else by Keras, one norm over both."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from onehull import MultiTaskModel
from onehull.model import FeatureEmbeddings
from onehull.optimizers import SGD
from onehull.spec.inputs import ModelInput

FEATURES = (ModelInput(name="user", kind="id", rows=50), ModelInput(name="tags", kind="ids", rows=20, length=3))
X = {"user": np.array([1, 1, 7, 3], "int32"), "tags": np.array([[2, 3, 0], [2, 0, 0], [9, 2, 3], [0, 0, 0]], "int32")}
Y = {"click": np.array([1, 0, 1, 1], "float32"), "watch": np.array([3.0, np.nan, 1.0, 2.0], "float32")}
LOOKED_UP = [1, 3, 7, 50 + 2, 50 + 3, 50 + 9]


def model_of():
    inputs = {item.name: keras.Input(item.shape, dtype=item.dtype, name=item.name) for item in FEATURES}
    embedded = FeatureEmbeddings(FEATURES, dim=4, seed=1, stddev=0.5, name="embeddings")(inputs)
    hidden = keras.layers.Dense(6, "tanh", kernel_initializer=keras.initializers.GlorotUniform(3))(embedded)
    click = keras.layers.Dense(1, "sigmoid", kernel_initializer=keras.initializers.GlorotUniform(4))(hidden)
    watch = keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(5))(hidden)
    return MultiTaskModel(inputs, {"click": click, "watch": watch})


def moved(*, clip_norm=None, embedding_optimizer=None, optimizer=None, **options):
    """How far each variable moves in one step."""
    model = model_of()
    model.compile(
        optimizer=optimizer or keras.optimizers.SGD(1.0),
        embedding_optimizer=embedding_optimizer,
        loss={"click": "binary_crossentropy", "watch": "mse"},
        clip_norm=clip_norm,
        **options,
    )
    before = [variable.numpy() for variable in model.trainable_variables]
    model.train_on_batch(X, Y)
    return model, [v.numpy() - old for v, old in zip(model.trainable_variables, before, strict=True)]


@pytest.mark.parametrize("balancer", [None, "pcgrad"])
def test_the_two_optimizers_move_what_one_would(balancer):
    _, one = moved(balancer=balancer)
    _, two = moved(balancer=balancer, embedding_optimizer=SGD(1.0))
    for left, right in zip(one, two, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


@pytest.mark.parametrize("embedding_optimizer", [None, SGD(1.0), keras.optimizers.SGD(1.0)])
def test_the_norm_is_that_of_all_gradients_together(embedding_optimizer):
    _, free = moved()
    _, clipped = moved(clip_norm=0.05, embedding_optimizer=embedding_optimizer)
    norm = np.sqrt(sum(float((part**2).sum()) for part in free))
    assert norm > 0.05
    for left, right in zip(free, clipped, strict=True):
        np.testing.assert_allclose(right, left * 0.05 / norm, atol=1e-7)


def test_only_rows_that_are_looked_up_move_while_adam_moves_the_rest():
    model, steps = moved(optimizer="adam", embedding_optimizer="lazy_adam")
    (table,) = model.tables
    of_table = next(s for s, v in zip(steps, model.trainable_variables, strict=True) if v is table)
    # A padding id is looked up too, and has no gradient.
    assert np.flatnonzero(of_table.any(axis=1)).tolist() == LOOKED_UP
    assert {variable.shape for variable in model.optimizer.variables if len(variable.shape) == 2} == {(8, 6), (6, 1)}


def test_a_batch_that_is_not_finite_moves_neither():
    model = model_of()
    loss = {"click": "binary_crossentropy", "watch": "mse"}
    model.compile("adam", loss, embedding_optimizer="rowwise_adagrad", non_finite="skip")
    before = model.get_weights()
    model.train_on_batch(X, {**Y, "watch": np.array([np.inf, 1, 1, 1], "float32")})
    for left, right in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert int(model.optimizer.iterations) == int(model.embedding_optimizer.iterations) == 0


def test_a_saved_model_goes_on_with_both(tmp_path):
    model, _ = moved(optimizer="adam", embedding_optimizer="rowwise_adagrad")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, again):
        each.train_on_batch(X, Y)
    for left, right in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-7)


def test_clipping_does_not_go_with_scaled_losses():
    scaling = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    with pytest.raises(ValueError, match=r"clip_norm cannot be used with a LossScaleOptimizer.*global_clipnorm"):
        moved(optimizer=scaling, clip_norm=1.0)
