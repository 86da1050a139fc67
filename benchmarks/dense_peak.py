"""How near the dense part of a step comes to what the machine can multiply.

Shapes: ``B`` batch, ``E`` width of all embeddings and numbers together.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from benchmarks.feed_model import Precision, feed_model
from benchmarks.peers.task import BATCH
from onehull.model import FeatureEmbeddings, MultiTaskModel

SQUARE = 2048
"""Side of the matrices whose product is the machine's rate."""


def dense_peak(tasks: int, *, turns: int, precision: Precision = "float32") -> dict[str, float]:
    """Measures the dense part, the products in it alone, and a product of large squares, in turn.

    The dense part is everything between the embedded inputs and their gradient: the layers forward, the losses, the
    gradients of all weights, and the gradient that goes to the embeddings; without look-up, optimizers and input.

    Args:
        tasks: number of binary tasks.
        turns: how often each is timed.
        precision: of the dense layers, and of the products beside them.

    Returns:
        ``fraction``: operations a second of the dense part (two for each multiplication of the products, nothing for
        the rest) as a share of those of the squares; ``fraction_of_products``: time of the products alone, at the
        shapes that they have in the step, as a share of the time of the dense part; the times and the rate.
    """
    model = feed_model(tasks, 10, precision=precision)
    step, products, square = _dense_step(model), _products(model, precision), _square(precision)
    seconds = _in_turn([step, products, square], turns)
    operations = 3 * 2 * BATCH * sum(inputs * outputs for inputs, outputs in _kernels(model))
    square_rate = 2 * SQUARE**3 / seconds[2]
    return {
        "fraction": round(operations / seconds[0] / square_rate, 3),
        "fraction_of_products": round(seconds[1] / seconds[0], 3),
        "dense_part_ms": round(1e3 * seconds[0], 2),
        "products_ms": round(1e3 * seconds[1], 2),
        "gflop": round(operations / 1e9, 3),
        "square_gflops": round(square_rate / 1e9, 1),
    }


def _in_turn(functions: list[Callable[[], Any]], turns: int) -> list[float]:
    """Median seconds of each."""
    for function in functions * 2:
        function()
    found: list[list[float]] = [[] for _ in functions]
    for _ in range(turns):
        for seconds, function in zip(found, functions, strict=True):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in found]


def _kernels(model: MultiTaskModel) -> list[tuple[int, int]]:
    """Shapes of the kernels, in the order of the layers."""
    tables = {id(variable) for layer in _embeddings(model) for variable in layer.trainable_variables}
    dense = [variable for variable in model.trainable_variables if id(variable) not in tables]
    return [tuple(variable.shape) for variable in dense if len(variable.shape) == 2]


def _embeddings(model: MultiTaskModel) -> list[FeatureEmbeddings]:
    return [layer for layer in model.layers if isinstance(layer, FeatureEmbeddings)]


def _dense_step(model: MultiTaskModel) -> Callable[[], Any]:
    """Forward, losses and backward behind the embeddings, as one compiled function."""
    (embeddings,) = _embeddings(model)
    behind = keras.Model(embeddings.output, model.outputs)
    embedded_BE = tf.Variable(tf.random.normal((BATCH, embeddings.width)))
    labels_B1 = tf.cast(tf.random.uniform((BATCH, 1)) < 0.3, tf.float32)
    weights = [variable.value for variable in behind.trainable_variables]

    @tf.function(autograph=False)
    def step() -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([*weights, embedded_BE])
            outputs = behind(tf.cast(embedded_BE, embeddings.compute_dtype), training=True)
            loss = tf.add_n([tf.reduce_mean(keras.losses.binary_crossentropy(labels_B1, one)) for one in outputs])
        # Sums, so that nothing large has to come out of the function.
        return [tf.reduce_max(gradient) for gradient in tape.gradient(loss, [*weights, embedded_BE])]

    return lambda: [value.numpy() for value in step()]


def _products(model: MultiTaskModel, precision: Precision) -> Callable[[], Any]:
    """The three products of each kernel: forward, gradient of the weights, gradient of the input."""
    shapes, dtype = _kernels(model), tf.dtypes.as_dtype(precision)
    x = [tf.cast(tf.random.normal((BATCH, inputs)), dtype) for inputs, _ in shapes]
    y = [tf.cast(tf.random.normal((BATCH, outputs)), dtype) for _, outputs in shapes]
    kernels = [tf.cast(tf.random.normal(shape), dtype) for shape in shapes]

    @tf.function(autograph=False)
    def multiply(x: list[Any], y: list[Any], kernels: list[Any]) -> Any:
        found = []
        for x_Bi, y_Bo, kernel_io in zip(x, y, kernels, strict=True):
            found += [x_Bi @ kernel_io, tf.matmul(x_Bi, y_Bo, transpose_a=True)]
            found.append(tf.matmul(y_Bo, kernel_io, transpose_b=True))
        return [product[0, 0] for product in found]

    return lambda: [value.numpy() for value in multiply(x, y, kernels)]


def _square(precision: Precision) -> Callable[[], Any]:
    """One product of large squares."""
    matrix = tf.cast(tf.random.normal((SQUARE, SQUARE)), tf.dtypes.as_dtype(precision))
    multiply = tf.function(lambda left, right: (left @ right)[0, 0], autograph=False)
    return lambda: multiply(matrix, matrix).numpy()
