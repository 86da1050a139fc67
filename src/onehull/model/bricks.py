"""What every architecture is built with: layers that are named, seeded and regularised in one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

from onehull.model.dense_block import DenseBlock
from onehull.model.embeddings import FeatureEmbeddings
from onehull.model.epnet import EpNet
from onehull.model.names import LayerNames
from onehull.model.ppnet import PpNet
from onehull.model.seeds import layer_seed
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


class GateOn(NamedTuple):
    """What `EpNet` or `PpNet` is given: features by their names, and the width of the gates' hidden layers."""

    features: Sequence[str]
    hidden: int | None = None


class _Embedded(NamedTuple):
    """Embedded inputs ``(B, width)`` before `EpNet` and behind it; the same tensor where there is none."""

    raw: Any
    gated: Any


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
        epnet: what gates the embeddings, if anything does.
        ppnet: what gates the towers' hidden units, if anything does.
        spaces: for each task, the task that must be 1 for its label to exist, or None.
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
    epnet: GateOn | None = None
    ppnet: GateOn | None = None
    spaces: Mapping[str, str | None] = field(default_factory=dict)
    _embedded: dict[str, _Embedded] = field(default_factory=dict, init=False, repr=False)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self.towers)

    def embed(self, name: str = "embeddings", *, seed: int | None = None) -> Any:
        """All inputs as one vector ``(B, width)``, gated where the spec asks; each call makes tables of its own.

        Args:
            name: of the layer: ``embeddings``, or ``embeddings_TASK`` for what one task reads alone.
            seed: of the initial rows. Default: that of the model, with which tables of one feature start alike.
        """
        layer = FeatureEmbeddings(
            self.inputs,
            self.embedding_dim,
            self.embedding_l2,
            self.seed if seed is None else seed,
            stddev=self.embedding_stddev,
            name=self.names.free(name),
        )
        raw = layer(dict(self.symbolic))
        gated = raw if self.epnet is None else self._gated(name.replace("embeddings", "epnet", 1), self.epnet, raw)
        self._embedded[name] = _Embedded(raw, gated)
        return gated

    def embed_streams(self, *, task_embeddings: bool) -> Streams:
        """The shared embeddings, and each task's: the shared ones, or tables of its own (STEM).

        Args:
            task_embeddings: whether each task has tables of its own.
        """
        shared = self.embed()
        if not task_embeddings:
            return Streams(shared, dict.fromkeys(self.tasks, shared))
        own = {task: f"embeddings_{task}" for task in self.tasks}
        return Streams(shared, {task: self.embed(name, seed=layer_seed(self.seed, name)) for task, name in own.items()})

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
        """The tower of a task, gated where the spec asks; ``(B, …)`` → ``(B, widths[-1])``."""
        widths = self.towers[task]
        if not widths:
            return inputs
        options: dict[str, Any] = {
            "activation": self.activation, "batch_norm": self.batch_norm, "dropout": self.tower_dropout, "l2": self.l2,
            "seed": self.seed, "name": self.names.free(f"tower_{task}"),
        }  # fmt: skip
        if self.ppnet is None:
            return Tower(widths, **options)(inputs)
        own = self._embedded.get(f"embeddings_{task}") or self._embedded["embeddings"]
        columns = self._columns("ppnet", self.ppnet)
        return PpNet(widths, columns, self.ppnet.hidden, **options)([inputs, own.raw, own.gated])

    def _gated(self, name: str, gate: GateOn, embedded: Any) -> Any:
        columns = self._columns("epnet", gate)
        return EpNet(columns, gate.hidden, l2=self.l2, seed=self.seed, name=self.names.free(name))(embedded)

    def _columns(self, place: str, gate: GateOn) -> list[tuple[int, int]]:
        """Where features stand in the embedded inputs: first column, and the one after the last."""
        widths = [item.length if item.kind == "dense" else item.dim or self.embedding_dim for item in self.inputs]
        ends = dict(zip([item.name for item in self.inputs], accumulate(widths), strict=True))
        starts = {name: end - width for (name, end), width in zip(ends.items(), widths, strict=True)}
        unknown = [name for name in gate.features if name not in ends]
        if unknown:
            raise ValueError(f"model.{place}.features must name inputs. Received {unknown}. Known: {list(ends)}.")
        return [(starts[name], ends[name]) for name in gate.features]
