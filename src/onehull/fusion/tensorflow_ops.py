"""The array namespace of a formula inside a TensorFlow graph."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any


@cache
def tensorflow_ops() -> Any:
    """TensorFlow's functions under NumPy's names, for ``formula(scores, xp=tensorflow_ops())``.

    TensorFlow is imported by the first call and not before, so that a service without it can read formulas.
    """
    # import_module, because a formula needs no framework: only a caller who is inside TensorFlow comes here.
    tf = import_module("tensorflow")

    def asarray(x: Any, dtype: str) -> Any:
        # tf.cast would take a Python number through float32.
        return tf.cast(x, dtype) if tf.is_tensor(x) else tf.constant(x, dtype)

    return SimpleNamespace(
        asarray=asarray,
        exp=tf.math.exp,
        floor=tf.math.floor,
        log=tf.math.log,
        log1p=tf.math.log1p,
        maximum=tf.math.maximum,
        minimum=tf.math.minimum,
        power=tf.math.pow,
        sqrt=tf.math.sqrt,
        where=tf.where,
    )
