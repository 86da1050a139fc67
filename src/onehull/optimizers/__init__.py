"""Optimizers of embedding tables: a step costs what the rows cost that a batch looked up.

Each is a Keras optimizer, for `keras.Model.compile` as well as for the embeddings of a
`onehull.model.MultiTaskModel`::

    model.compile(optimizer="adam", embedding_optimizer=RowwiseAdagrad(0.01), loss=…)

Rows that a batch does not look up keep their values and their slots, bit for bit, however many there are. One file a
method; `EMBEDDING_OPTIMIZERS` is the list of methods. `dense_optimizer` and `embedding_optimizer` read a spec.
"""

from onehull.optimizers.adagrad import Adagrad
from onehull.optimizers.build import dense_optimizer, embedding_optimizer
from onehull.optimizers.embedding_optimizer import EmbeddingOptimizer, Slot
from onehull.optimizers.ftrl import FTRL
from onehull.optimizers.lazy_adam import LazyAdam
from onehull.optimizers.registry import EMBEDDING_OPTIMIZERS, get_embedding_optimizer
from onehull.optimizers.rowwise_adagrad import RowwiseAdagrad
from onehull.optimizers.sgd import SGD
from onehull.optimizers.warmup_decay import WarmupDecay

__all__ = [
    "EMBEDDING_OPTIMIZERS",
    "FTRL",
    "SGD",
    "Adagrad",
    "EmbeddingOptimizer",
    "LazyAdam",
    "RowwiseAdagrad",
    "Slot",
    "WarmupDecay",
    "dense_optimizer",
    "embedding_optimizer",
    "get_embedding_optimizer",
]
