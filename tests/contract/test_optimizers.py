"""What every optimizer of embedding tables owes, whatever it computes: one suite over the registry."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from onehull.optimizers import EMBEDDING_OPTIMIZERS, EmbeddingOptimizer, get_embedding_optimizer

ROWS, WIDTH = 12, 3

ARGUMENTS = {"ftrl": {"l1": 1e-3, "l2": 1e-3}, "sgd": {"learning_rate": 0.1, "momentum": 0.9}}
"""What makes a method's own terms count in a few steps; all others have their defaults."""

METHODS = sorted(EMBEDDING_OPTIMIZERS)


def make(kind, **arguments) -> EmbeddingOptimizer:
    return EMBEDDING_OPTIMIZERS[kind](**{**ARGUMENTS.get(kind, {}), **arguments})


def table(seed=0, rows=ROWS):
    values = np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype("float32")
    return keras.Variable(values, name="table")


def slices(rows, seed=1, dtype="float32"):
    values = np.random.default_rng(seed).normal(size=(len(rows), WIDTH))
    return tf.IndexedSlices(tf.constant(values, dtype), tf.constant(rows, tf.int32), tf.constant([ROWS, WIDTH]))


def summed(gradient):
    """The same gradient with each row once, in order."""
    rows = np.unique(gradient.indices)
    dense = tf.convert_to_tensor(gradient).numpy()
    return tf.IndexedSlices(tf.constant(dense[rows]), tf.constant(rows, tf.int32), gradient.dense_shape)


def state(optimizer, variable):
    return {"table": variable.numpy(), **{name: slot.numpy() for name, slot in optimizer.slots_of(variable).items()}}


def steps(kind, gradients, **arguments):
    """The table and its slots after some steps."""
    variable, optimizer = table(), make(kind, **arguments)
    for gradient in gradients:
        optimizer.apply([gradient], [variable])
    return state(optimizer, variable)


def assert_equal(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], err_msg=name, **tolerance)


@pytest.mark.parametrize("kind", METHODS)
def test_rows_that_are_not_looked_up_keep_their_bits(kind):
    first, second = slices([0, 3, 3, 7]), slices([3, 11, 0], seed=2)
    variable, optimizer = table(), make(kind)
    optimizer.apply([first], [variable])
    before = state(optimizer, variable)
    optimizer.apply([second], [variable])
    for name, after in state(optimizer, variable).items():
        moved = np.any(np.reshape(after != before[name], (ROWS, -1)), axis=1)
        assert set(np.flatnonzero(moved)) == {0, 3, 11}, name


@pytest.mark.parametrize("kind", METHODS)
def test_a_row_that_comes_many_times_is_moved_once_by_the_sum(kind):
    gradients = [slices([5, 2, 5, 5, 0]), slices([2, 2], seed=3), slices([5, 1, 5], seed=4)]
    found, expected = steps(kind, gradients), steps(kind, [summed(g) for g in gradients])
    assert_equal(found, expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("kind", METHODS)
def test_unique_rows_are_taken_as_they_are(kind):
    gradients = [slices([5, 2, 0]), slices([2, 7], seed=3)]
    variable, optimizer = table(), make(kind)
    for gradient in gradients:
        optimizer.apply([gradient], [variable], unique=True)
    assert_equal(state(optimizer, variable), steps(kind, gradients), rtol=0)


@pytest.mark.parametrize("kind", METHODS)
def test_a_dense_gradient_moves_all_rows_by_the_same_rule(kind):
    gradients = [slices(np.random.default_rng(n).permutation(ROWS), seed=n) for n in range(3)]
    dense = steps(kind, [tf.convert_to_tensor(gradient) for gradient in gradients])
    assert_equal(steps(kind, gradients), dense, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("kind", METHODS)
def test_vectors_scalars_and_cubes_are_moved_too(kind):
    shapes = [(), (4,), (2, 3, 2)]
    variables = [keras.Variable(np.ones(shape, "float32")) for shape in shapes]
    make(kind, learning_rate=0.1).apply([tf.ones(shape) for shape in shapes], variables)
    for variable in variables:
        assert np.all(variable.numpy() < 1)


@pytest.mark.parametrize("kind", METHODS)
def test_a_step_does_not_read_whole_tables(kind):
    variable, optimizer = table(), make(kind)
    optimizer.build([variable])

    @tf.function
    def step(gradient):
        optimizer.apply([gradient], [variable])

    graph = step.get_concrete_function(slices([1, 2, 2])).graph
    touching = [op for op in graph.get_operations() if any(tensor.dtype == tf.resource for tensor in op.inputs)]
    # Read or written as a whole are only the learning rate and the number of the step.
    sizes = {
        **{op.name: op.outputs[0].shape.rank for op in touching if op.type == "ReadVariableOp"},
        **{op.name: op.inputs[1].shape.rank for op in touching if op.type == "AssignVariableOp"},
    }
    assert set(sizes.values()) == {0}
    assert {op.type for op in touching if op.name not in sizes} == {"ResourceGather", "ResourceScatterUpdate"}


@pytest.mark.parametrize("kind", METHODS)
def test_a_step_is_traced_once(kind):
    variable, optimizer = table(), make(kind)
    optimizer.build([variable])
    rows = tf.TensorSpec((None,), tf.int32)

    @tf.function(input_signature=[rows])
    def step(indices):
        optimizer.apply([tf.IndexedSlices(tf.ones((tf.size(indices), WIDTH)), indices)], [variable])

    for indices in ([1, 2, 1], [4], [0, 1, 2, 3, 3]):
        step(tf.constant(indices))
    assert step.experimental_get_tracing_count() == 1
    assert int(optimizer.iterations) == 3


@pytest.mark.parametrize("kind", METHODS)
def test_an_empty_batch_moves_nothing(kind):
    variable, optimizer = table(), make(kind)
    optimizer.apply([slices([1, 1, 2])], [variable])
    before = state(optimizer, variable)
    optimizer.apply([slices([])], [variable])
    assert_equal(state(optimizer, variable), before, rtol=0)


@pytest.mark.parametrize("kind", METHODS)
def test_a_gradient_of_zero_keeps_values_finite(kind):
    variable, optimizer = table(), make(kind)
    optimizer.apply([tf.IndexedSlices(tf.zeros((2, WIDTH)), tf.constant([1, 4]))], [variable])
    np.testing.assert_array_equal(variable.numpy(), table().numpy())


@pytest.mark.parametrize("kind", METHODS)
def test_a_bfloat16_gradient_is_calculated_with_in_float32(kind):
    coarse = slices([3, 1, 3, 3, 3], dtype="bfloat16")
    fine = tf.IndexedSlices(tf.cast(coarse.values, tf.float32), coarse.indices, coarse.dense_shape)
    found = steps(kind, [coarse])
    assert {array.dtype.name for array in found.values()} == {"float32"}
    assert_equal(found, steps(kind, [fine]), rtol=0)


@pytest.mark.parametrize("kind", METHODS)
def test_the_norm_that_is_clipped_is_that_of_the_sums(kind):
    gradient = slices([4, 4, 4, 9])
    norm = float(tf.norm(tf.convert_to_tensor(gradient)))
    short = tf.IndexedSlices(gradient.values * (0.5 / norm), gradient.indices, gradient.dense_shape)
    expected = steps(kind, [short])
    for clipping in ("clipnorm", "global_clipnorm"):
        assert_equal(steps(kind, [gradient], **{clipping: 0.5}), expected, rtol=2e-5, atol=1e-7)
    variable, optimizer = table(), make(kind, clipnorm=0.5)
    optimizer.build([variable])

    @tf.function(jit_compile=True)
    def step():
        optimizer.apply([gradient], [variable])

    step()
    assert_equal(state(optimizer, variable), expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("kind", METHODS)
def test_each_step_has_the_rate_of_its_schedule(kind):
    rates = (0.3, 0.01)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], list(rates))
    gradients = [slices([2, 2, 6]), slices([2, 1], seed=5)]
    variable, optimizer = table(), make(kind, learning_rate=0.5)
    optimizer.build([variable])
    for rate, gradient in zip(rates, gradients, strict=True):
        optimizer.learning_rate = rate
        optimizer.apply([gradient], [variable])
    assert_equal(steps(kind, gradients, learning_rate=schedule), state(optimizer, variable), rtol=1e-6)


@pytest.mark.parametrize("kind", METHODS)
def test_operations_are_deterministic(kind):
    tf.config.experimental.enable_op_determinism()
    gradient = slices(np.random.default_rng(0).integers(0, ROWS, 4096))
    first = steps(kind, [gradient, gradient])
    assert_equal(steps(kind, [gradient, gradient]), first, rtol=0)


def small_model():
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Embedding(30, 4), keras.layers.Flatten(), keras.layers.Dense(1, "sigmoid")]
    return keras.Sequential([keras.Input((3,), dtype="int32"), *layers])


@pytest.mark.parametrize("kind", METHODS)
def test_it_trains_a_keras_model_with_and_without_xla(kind):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 20, (32, 3)), rng.integers(0, 2, (32, 1))
    trained = {}
    for xla in (False, True):
        model = small_model()
        first = model.get_weights()
        model.compile(make(kind), "binary_crossentropy", jit_compile=xla)
        model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        trained[xla] = model.get_weights()
        np.testing.assert_array_equal(trained[xla][0][20:], first[0][20:])
        assert np.all(np.any(trained[xla][0][np.unique(x)] != first[0][np.unique(x)], axis=1))
    for plain, compiled in zip(trained[False], trained[True], strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", METHODS)
def test_a_saved_model_goes_on_as_if_it_had_not_been(kind, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 20, (16, 3)), rng.integers(0, 2, (16, 1))
    model = small_model()
    model.compile(make(kind), "binary_crossentropy", jit_compile=False)
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for each in (model, loaded):
        each.fit(x, y, epochs=1, verbose=0, shuffle=False)
    for found, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize(
    "refused",
    [
        {"weight_decay": 0.01},
        {"use_ema": True},
        {"gradient_accumulation_steps": 2},
        {"loss_scale_factor": 128.0},
    ],
)
def test_what_would_change_all_rows_is_refused(kind, refused):
    with pytest.raises(ValueError, match=f"{next(iter(refused))} is not offered"):
        make(kind, **refused)


@pytest.mark.parametrize("kind", METHODS)
def test_arguments_go_through_a_config(kind):
    optimizer = make(kind, clipvalue=0.5, name="own")
    again = get_embedding_optimizer(keras.saving.serialize_keras_object(optimizer))
    assert isinstance(again, type(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert get_embedding_optimizer(optimizer) is optimizer


REPLICAS = """
import sys
import keras, numpy as np, tensorflow as tf
from onehull.optimizers import get_embedding_optimizer

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rows = [[1, 2, 1], [2, 3, 3]]
each = strategy.experimental_distribute_values_from_function(
    lambda context: tf.constant(rows[context.replica_id_in_sync_group]))

def gradients(rows, scale):
    values = tf.ones((tf.size(rows), 4)) * tf.cast(rows, tf.float32)[:, None]
    return [tf.IndexedSlices(values, rows, tf.constant([10, 4])), tf.ones((3,)) * scale]

def make(kind):
    variables = [keras.Variable(np.ones(shape, "float32")) for shape in ((10, 4), (3,))]
    optimizer = get_embedding_optimizer(kind)
    optimizer.build(variables)
    return optimizer, variables

for kind in sys.argv[1:]:
    with strategy.scope():
        optimizer, variables = make(kind)

    def replica(rows, merged):
        context = tf.distribute.get_replica_context()
        own = gradients(rows, 1.0 + tf.cast(context.replica_id_in_sync_group, tf.float32))
        if merged:
            own = context.all_reduce(tf.distribute.ReduceOp.SUM, own)
            context.merge_call(lambda _, *found: optimizer.apply(list(found), variables), args=tuple(own))
        else:
            optimizer.apply(own, variables, unique=True)  # rows are not, once the replicas' are put together

    @tf.function
    def step(merged):
        strategy.run(replica, args=(each, merged))

    step(True)
    step(False)
    alone, others = make(kind)
    for _ in range(2):
        alone.apply(gradients(tf.constant(rows[0] + rows[1]), 3.0), others)
    for found, expected in zip([*optimizer.variables, *variables], [*alone.variables, *others], strict=True):
        for copy in found.value.values:
            np.testing.assert_allclose(copy.numpy(), expected.numpy(), rtol=1e-6, err_msg=f"{kind} {found.path}")
"""


@pytest.mark.slow
def test_replicas_do_what_one_does_alone():
    done = subprocess.run([sys.executable, "-c", REPLICAS, *METHODS], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
