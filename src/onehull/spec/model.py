"""The architecture of the model: one section a kind.

The fields of `Architecture` are common to all kinds; the others are the arguments of the kind's function in
`onehull.model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from onehull.spec.section import Name, Section

Width = Annotated[int, Field(ge=1)]
Widths = tuple[Width, ...]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class EpNet(Section):
    """Gates on the embeddings from the impression's domain (EPNet; Chang et al., KDD 2023)."""

    features: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Features that say which domain an impression belongs to: the page, the country, the surface."""
    hidden: Width | None = None
    """Width of the gate's hidden layer. Default: the width of all embeddings."""


class PpNet(Section):
    """Gates on every layer of the towers from who and what is shown (PPNet; Chang et al., KDD 2023)."""

    features: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Features of the user, the item and its author that make a tower personal; a tower without layers has no gate."""
    hidden: Width | None = None
    """Width of each gate's hidden layer. Default: that of the layer that it gates."""


class Architecture(Section):
    """What every kind has: embeddings below, a tower for each task above."""

    embedding_dim: Width = 16
    embedding_stddev: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """Standard deviation of an embedding's first values. A small one makes ids that are hardly seen say little."""
    embedding_l2: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty on the embeddings that a batch looks up."""
    tower: Widths = (64,)
    """Widths of each tower's hidden layers."""
    tower_dropout: Rate = 0.0
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    dropout: Rate = 0.0
    """Dropout after each layer below the towers."""
    batch_norm: bool = False
    """Batch normalisation after each dense layer."""
    l2: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty on dense kernels."""
    epnet: EpNet | None = None
    ppnet: PpNet | None = None
    entire_space: Literal["none", "product", "ips", "dr"] = "none"
    """How a binary task with `observed_when` learns: from the rows of its space (``none``); from all impressions,
    through the product of the probabilities (``product``, ESMM); from its space, each row weighted by one over the
    probability of being in it (``ips``), or doubly robust, with a model of the error (``dr``; both ESCM²)."""
    propensity_floor: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Smallest probability that ``ips`` and ``dr`` divide by."""
    global_weight: Weight = 1.0
    """Weight of the product's loss beside that of the space in ``ips`` and ``dr`` (ESCM²)."""


class SharedBottom(Architecture):
    """Embeddings, then shared layers, then a tower for each task (Caruana, 1997)."""

    kind: Literal["shared_bottom"] = "shared_bottom"
    bottom: Widths = (256, 128)
    """Widths of the bottom's layers."""
    sharing_depth: Count | None = None
    """How many layers are shared, counted from the input, the embeddings being the first:
    0 = independent models, 1 = embeddings only, 1 + len(bottom) = everything below the towers (default)."""

    @field_validator("sharing_depth")
    @classmethod
    def _within_the_bottom(cls, value: int | None, info: ValidationInfo) -> int | None:
        layers = 1 + len(info.data.get("bottom", ()))
        if value is not None and value > layers:
            raise ValueError(f"must be at most {layers}, the embeddings and the layers of model.bottom")
        return value


ExpertWidths = Annotated[Widths, Field(min_length=1)]


class _Experts(Architecture):
    levels: Annotated[tuple[ExpertWidths, ...], Field(min_length=1)] = ((256, 128),)
    """Widths of an expert's layers, for each level; a level's experts read what the level before has mixed."""
    gate: Widths = ()
    """Widths of a gate's hidden layers; none is one linear layer."""
    gate_dropout: Rate = 0.0
    """Share of a gate's weights that are dropped in training, the rest scaled back to a sum of 1; keeps gates
    from settling on one expert."""
    expert_norm: Literal["none", "batch", "layer"] = "none"
    """Normalisation in an expert before each activation; keeps units from dying."""


class Mmoe(_Experts):
    """Shared experts and a gate for each task (MMoE; Ma et al., KDD 2018)."""

    kind: Literal["mmoe"]
    experts: Width = 4


class _OwnAndShared(_Experts):
    shared_experts: Count = 1
    task_experts: Count = 1
    task_embeddings: bool = False
    """Each task has embedding tables of its own beside the shared ones, which its own experts read (STEM)."""

    @field_validator("task_experts")
    @classmethod
    def _some_expert(cls, value: int, info: ValidationInfo) -> int:
        if value == 0 and info.data.get("shared_experts") == 0:
            raise ValueError("must be at least 1 where shared_experts is 0, or a task has no expert")
        return value


class Cgc(_OwnAndShared):
    """Shared experts and experts of each task, one level (CGC; Tang et al., RecSys 2020)."""

    kind: Literal["cgc"]
    levels: Annotated[tuple[ExpertWidths, ...], Field(min_length=1, max_length=1)] = ((256, 128),)
    """Widths of an expert's layers; one level, as `ple` is what has several."""


class Ple(_OwnAndShared):
    """CGC on several levels, with a shared stream between them (PLE; Tang et al., RecSys 2020)."""

    kind: Literal["ple"]
    levels: Annotated[tuple[ExpertWidths, ...], Field(min_length=1)] = ((256,), (128,))


class AdaTt(_Experts):
    """Experts of all tasks, and a residual from a task's own (AdaTT; Li et al., KDD 2023)."""

    kind: Literal["adatt"]
    levels: Annotated[tuple[ExpertWidths, ...], Field(min_length=1)] = ((256,), (128,))
    shared_experts: Count = 0
    task_experts: Width = 1
    task_embeddings: bool = False
    """Each task has embedding tables of its own beside the shared ones, which its own experts read (STEM)."""


class CrossStitch(Architecture):
    """A bottom for each task, mixed after every layer (cross-stitch; Misra et al., CVPR 2016)."""

    kind: Literal["cross_stitch"]
    bottom: Widths = (256, 128)
    own: Annotated[float, Field(gt=0, le=1)] = 0.9
    """First weight of a task's own layer; the others share the rest."""
    task_embeddings: bool = False
    """Each task has embedding tables of its own beside the shared ones, which its own bottom reads (STEM)."""


class Stem(_Experts):
    """Task-specific embeddings; gates pass other tasks' experts on without a gradient (STEM; Su et al., AAAI 2024)."""

    kind: Literal["stem"]
    shared_experts: Width = 1
    task_experts: Width = 1


class Esmm(Architecture):
    """Shared embeddings, a tower for each task, losses on all impressions (ESMM; Ma et al., SIGIR 2018)."""

    kind: Literal["esmm"]
    tower: Widths = (128, 64)
    entire_space: Literal["product", "ips", "dr"] = "product"


class Aitm(Architecture):
    """Tasks in a chain, each handing on what it has learned (AITM; Xi et al., KDD 2021)."""

    kind: Literal["aitm"]
    tower: Widths = (128, 64)
    order: tuple[Name, ...] = ()
    """The tasks from the first step to the last. Default: the order of the spec. All towers end in the same width."""
    calibrator: Weight = 0.6
    """Weight of the penalty on a binary task that is more probable than the binary task before it; tasks with
    different `observed_when` are not compared."""


class Home(_Experts):
    """Experts in a hierarchy of task groups, with feature gates and self gates (HoME; Wang et al., KDD 2025)."""

    kind: Literal["home"]
    levels: Annotated[tuple[ExpertWidths, ...], Field(min_length=2, max_length=2)] = ((256,), (128,))
    groups: dict[Name, tuple[Name, ...]] = {}
    """Tasks of one kind, such as watch time or interaction. Default: one group of binary tasks, one of the others."""
    shared_experts: Width = 1
    """Experts of each group, and of all tasks, on each of the two levels."""
    task_experts: Width = 1
    """Experts of each task, on the second level."""
    feature_gate_rank: Width = 16
    """Rank of the feature gates' matrices."""
    expert_norm: Literal["none", "batch", "layer"] = "batch"
    activation: Literal["relu", "gelu", "silu", "tanh"] = "silu"


def _default_kind(value: Any) -> Any:
    return {"kind": "shared_bottom", **value} if isinstance(value, Mapping) else value


Model = Annotated[
    Annotated[
        SharedBottom | Mmoe | Cgc | Ple | AdaTt | CrossStitch | Stem | Esmm | Aitm | Home, Field(discriminator="kind")
    ],
    BeforeValidator(_default_kind),
]
