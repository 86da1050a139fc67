"""How the model is trained and how the best epoch is chosen."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from onehull.spec.section import Section

Rate = Annotated[float, Field(gt=0, lt=100)]


class Schedule(Section):
    """How the learning rates change with the steps of training: up in the warm-up, then down.

    A schedule multiplies the learning rates of the dense weights and of the embeddings by the same factor.
    """

    kind: Literal["constant", "cosine", "linear", "exponential", "inverse_sqrt"] = "constant"
    """How the factor falls after the warm-up: not at all; along half a cosine; along a line; by the same share at each
    step; as 1 / √(1 + steps / decay_steps)."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which the factor rises from 0 to 1 along a line."""
    decay_steps: Annotated[int, Field(ge=1)] | None = Field(default=None, validate_default=True)
    """Steps after the warm-up until the factor is `end`; for ``inverse_sqrt`` until it is 1 / √2. Required unless the
    kind is ``constant``."""
    end: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """The smallest factor after the warm-up, where it stays."""

    @field_validator("decay_steps")
    @classmethod
    def _where_it_falls(cls, value: int | None, info: ValidationInfo) -> int | None:
        kind = info.data.get("kind", "constant")
        if value is None and kind != "constant":
            raise ValueError(f"needs decay_steps for the kind {kind!r}, the number of steps in which the factor falls")
        if value is not None and kind == "constant":
            raise ValueError("does not go with the kind 'constant', which never falls; choose another kind")
        return value

    @field_validator("end")
    @classmethod
    def _never_zero(cls, value: float, info: ValidationInfo) -> float:
        if value == 0 and info.data.get("kind") == "exponential":
            raise ValueError("must be above 0 for the kind 'exponential', which never gets to 0; for example 0.01")
        return value


class Training(Section):
    """Optimizers, epochs, early stopping on validation."""

    batch_size: Annotated[int, Field(ge=1)] = 1024
    epochs: Annotated[int, Field(ge=1)] = 10
    optimizer: Literal["adam", "adamw", "adagrad", "sgd"] = "adam"
    """Optimizer of the dense weights."""
    learning_rate: Rate = 1e-3
    embedding_optimizer: Literal["rowwise_adagrad", "adagrad", "lazy_adam", "sgd", "ftrl", "same"] = "rowwise_adagrad"
    """Optimizer of the embedding tables, which moves the rows that a batch looks up; ``same``: that of the dense
    weights, which moves all rows at every step."""
    embedding_learning_rate: Rate | None = None
    """Default: that of the embeddings' optimizer."""
    schedule: Schedule = Schedule()
    """How both learning rates change with the steps."""
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the running average of the dense weights that each step keeps, for example 0.999; the average is what
    training ends with. Embeddings are left out: an average changes every row at every step. Default: no average."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global norm of the gradients. Default: no clipping."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the dense part calculates in; weights, tables and losses are float32. ``auto``: bfloat16 where a measurement
    says that it is faster on this machine."""
    jit_compile: Literal["auto"] | bool = "auto"
    """Whether XLA compiles the step. ``auto``: where a measurement says that it is faster on this machine."""
    non_finite: Literal["stop", "skip", "step_back"] = "stop"
    """What happens to a batch whose loss or gradient is not finite: training stops and names the task, or the batch is
    left out and counted, or training goes on from the last checkpoint, without that batch."""
    checkpoint_minutes: Annotated[float, Field(gt=0)] | None = 10.0
    """Longest time between two checkpoints; there is one after each epoch anyway. None: only these."""
    patience: Annotated[int, Field(ge=0)] = 2
    """Epochs without improvement on validation after which training stops."""
    select_by: Literal["loss", "auc"] = "auc"
    """What chooses the epoch on validation: the weighted loss, or the mean AUC of the binary tasks."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    deterministic: bool = True
    """The same seed gives the same bits (a little slower)."""
    tensorboard: bool = True

    @field_validator("embedding_learning_rate")
    @classmethod
    def _of_an_own_optimizer(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("embedding_optimizer") == "same":
            raise ValueError("does not go with embedding_optimizer 'same', whose rate is learning_rate; remove it")
        return value

    @field_validator("average")
    @classmethod
    def _of_dense_weights(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("embedding_optimizer") == "same":
            raise ValueError("does not go with embedding_optimizer 'same': an average changes every row at every step; "
                             "choose another embedding_optimizer, such as 'rowwise_adagrad'")  # fmt: skip
        return value
