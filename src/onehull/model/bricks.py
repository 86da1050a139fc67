"""What every architecture is built with: layers that are named, seeded and regularised in one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from onehull.model.dense_block import DenseBlock
from onehull.model.embeddings import FeatureEmbeddings
from onehull.model.names import LayerNames
from onehull.model.tower import Tower
from onehull.spec.inputs import ModelInput


class Graph(NamedTuple):
    """What an architecture builds.

    Attributes:
        hidden: symbolic representation of each task behind its tower, ``(B, width)``.
        relate: symbolic predictions of all tasks → the same predictions, for a layer that looks at several of them.
    """

    hidden: dict[str, Any]
    relate: Callable[[dict[str, Any]], dict[str, Any]] = lambda predictions: predictions


class Streams(NamedTuple):
    """Embedded inputs ``(B, width)``: those that all tasks read, and those that each task reads."""

    shared: Any
    by_task: dict[str, Any]


@dataclass(frozen=True)
class Bricks:
    """Symbolic inputs, and makers of the layers that all architectures have.

    Every layer is named after its place, and seeded by the model's seed and its name, so that the order of tasks
    changes nothing.

    Attributes:
        symbolic: symbolic input of each encoded input.
        inputs: the encoded inputs.
        towers: widths of each task's tower; its keys are the tasks.
        binary: the tasks whose prediction is a probability.
        names: gives layers names that are free.
        seed: seed of all initial values and of dropout.
        embedding_dim: width of the embeddings whose input does not say.
        embedding_stddev: standard deviation of the embeddings' first values.
        embedding_l2: penalty on the embeddings that a batch looks up.
        activation: name of a Keras activation.
        dropout: share of units left out after each layer below the towers.
        tower_dropout: after each layer of the towers.
        batch_norm: normalise after each dense layer.
        l2: penalty on the kernels.
    """

    symbolic: Mapping[str, Any]
    inputs: Sequence[ModelInput]
    towers: Mapping[str, Sequence[int]]
    binary: frozenset[str]
    names: LayerNames
    seed: int
    embedding_dim: int = 16
    embedding_stddev: float = 1e-4
    embedding_l2: float = 0.0
    activation: str = "relu"
    dropout: float = 0.0
    tower_dropout: float = 0.0
    batch_norm: bool = False
    l2: float = 0.0

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self.towers)

    def embed(self, name: str = "embeddings") -> Any:
        """All inputs as one vector ``(B, width)``; each call makes tables of its own."""
        layer = FeatureEmbeddings(
            self.inputs,
            self.embedding_dim,
            self.embedding_l2,
            self.seed,
            stddev=self.embedding_stddev,
            name=self.names.free(name),
        )
        return layer(dict(self.symbolic))

    def embed_streams(self, *, task_embeddings: bool) -> Streams:
        """The shared embeddings, and each task's: the shared ones, or tables of its own (STEM).

        Args:
            task_embeddings: whether each task has tables of its own.
        """
        shared = self.embed()
        if not task_embeddings:
            return Streams(shared, dict.fromkeys(self.tasks, shared))
        return Streams(shared, {task: self.embed(f"embeddings_{task}") for task in self.tasks})

    def dense(self, name: str, width: int, inputs: Any) -> Any:
        """One dense block below the towers; ``(B, …)`` → ``(B, width)``."""
        return DenseBlock(
            width,
            activation=self.activation,
            batch_norm=self.batch_norm,
            dropout=self.dropout,
            l2=self.l2,
            seed=self.seed,
            name=self.names.free(name),
        )(inputs)

    def tower(self, task: str, inputs: Any) -> Any:
        """The tower of a task; ``(B, …)`` → ``(B, widths[-1])``."""
        widths = self.towers[task]
        if not widths:
            return inputs
        return Tower(
            widths,
            activation=self.activation,
            batch_norm=self.batch_norm,
            dropout=self.tower_dropout,
            l2=self.l2,
            seed=self.seed,
            name=self.names.free(f"tower_{task}"),
        )(inputs)
