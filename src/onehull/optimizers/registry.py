"""The optimizers of embedding tables by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from onehull.errors import suggest
from onehull.optimizers.adagrad import Adagrad
from onehull.optimizers.embedding_optimizer import EmbeddingOptimizer
from onehull.optimizers.ftrl import FTRL
from onehull.optimizers.lazy_adam import LazyAdam
from onehull.optimizers.rowwise_adagrad import RowwiseAdagrad
from onehull.optimizers.sgd import SGD

EMBEDDING_OPTIMIZERS: dict[str, Callable[..., EmbeddingOptimizer]] = {
    "adagrad": Adagrad,
    "ftrl": FTRL,
    "lazy_adam": LazyAdam,
    "rowwise_adagrad": RowwiseAdagrad,
    "sgd": SGD,
}
"""Every method by its name in a spec."""


def get_embedding_optimizer(identifier: Any) -> keras.optimizers.Optimizer | None:
    """An optimizer of embedding tables from what a user writes.

    Args:
        identifier: a Keras optimizer, a name, ``{"kind": name, …arguments}``, what
            `keras.saving.serialize_keras_object` made of an optimizer, or None.

    Raises:
        ValueError: a name or an argument is not known, or an argument is refused.
    """
    if identifier is None or isinstance(identifier, keras.optimizers.Optimizer):
        return identifier
    if isinstance(identifier, Mapping) and "class_name" in identifier:
        return keras.saving.deserialize_keras_object(identifier)
    arguments = dict(identifier) if isinstance(identifier, Mapping) else {"kind": identifier}
    kind = arguments.pop("kind", None)
    if kind not in EMBEDDING_OPTIMIZERS:
        known = suggest(kind, sorted(EMBEDDING_OPTIMIZERS))
        raise ValueError(f"embedding_optimizer must name a method, or be a Keras optimizer. Received {kind!r}. {known}")
    return EMBEDDING_OPTIMIZERS[kind](**arguments)
