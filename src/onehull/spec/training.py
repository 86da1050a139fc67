"""How the model is trained and how the best epoch is chosen."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onehull.spec.section import Section


class Training(Section):
    """Optimizer, epochs, early stopping on validation."""

    batch_size: Annotated[int, Field(ge=1)] = 1024
    epochs: Annotated[int, Field(ge=1)] = 10
    optimizer: Literal["adam", "adamw", "adagrad", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, lt=100)] = 1e-3
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global norm of the gradients. Default: no clipping."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What happens to a batch whose loss or gradient is not finite: training stops and names the task, or the batch is
    left out and counted."""
    patience: Annotated[int, Field(ge=0)] = 2
    """Epochs without improvement on validation after which training stops."""
    select_by: Literal["loss", "auc"] = "auc"
    """What chooses the epoch on validation: the weighted loss, or the mean AUC of the binary tasks."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    deterministic: bool = True
    """The same seed gives the same bits (a little slower)."""
    tensorboard: bool = True
