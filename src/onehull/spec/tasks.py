"""What is predicted about each impression, and where its label comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from onehull.spec.heads import Head, Linear
from onehull.spec.late import Late
from onehull.spec.section import Duration, Section


class _Task(Section):
    label: str | None = None
    """Column of a ready-made table that holds the label."""
    event: str | None = None
    """Kind of the feedback event that gives the label (event log)."""
    window: Duration | None = None
    """Attribution window: feedback counts this long after the impression; until then the label is missing."""
    observed_when: str | None = None
    """Binary task that defines the sample space: the label exists only where that task is 1."""
    missing: float | None = None
    """Value that stands for a missing label, for example -1. Null and NaN always do."""
    tower: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Widths of this task's tower. Default: `model.tower`."""


class BinaryTask(_Task):
    """Will it happen? Sigmoid and cross-entropy."""

    kind: Literal["binary"]
    late: Late | None = None
    """In a streamed log (`data.events.lateness`): samples leave before this task's window closes, and the loss corrects
    for events that have not come. Default: they wait for the window to close."""


class RegressionTask(_Task):
    """How much? By default a linear output with a squared or Huber loss, on the value or on log(1 + value).

    Watch time, whose `duration` is named, is learned with weighted logistic regression unless the task says otherwise.
    """

    kind: Literal["regression"]
    value: str | None = None
    """Field of the feedback event that holds the value (event log)."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """Labels are multiplied by this, for example 0.001 to turn milliseconds into seconds."""
    transform: Literal["none", "log1p"] = "none"
    """``log1p`` trains on log(1 + y); predictions are back on the scale of y."""
    loss: Literal["mse", "huber"] = "mse"
    huber_delta: Annotated[float, Field(gt=0)] = 1.0
    duration: str | None = None
    """Feature that holds the length of what is watched; the report shows predictions against it, and the head ``d2q``
    groups by it."""
    head: Head = Linear()
    """How the label is learned. `transform`, `loss` and `huber_delta` belong to ``linear``; the others are for labels
    that are not negative, such as watch time. Default: ``wlr`` where `duration` is given and none of these three is,
    otherwise ``linear``."""

    @model_validator(mode="before")
    @classmethod
    def _watch_time_by_default(cls, value: Any) -> Any:
        """Whoever names the length of what is watched means watch time; see docs/decisions/0006."""
        linear = ("head", "transform", "loss", "huber_delta")
        if isinstance(value, Mapping) and value.get("duration") and not any(name in value for name in linear):
            return {**value, "head": {"kind": "wlr"}}
        return value

    @field_validator("head")
    @classmethod
    def _linear_where_it_is_transformed(cls, value: Head, info: ValidationInfo) -> Head:
        defaults = {name: cls.model_fields[name].default for name in ("transform", "loss", "huber_delta")}
        changed = [name for name, default in defaults.items() if info.data.get(name, default) != default]
        if changed and value.kind != "linear":
            raise ValueError(
                f"must be linear where {', '.join(changed)} is given; the other heads have losses of their own"
            )
        return value


class MulticlassTask(_Task):
    """Which one? Softmax over classes 0 … classes-1."""

    kind: Literal["multiclass"]
    classes: Annotated[int, Field(ge=2)]
    value: str | None = None
    """Field of the feedback event that holds the class (event log)."""


Task = Annotated[BinaryTask | RegressionTask | MulticlassTask, Field(discriminator="kind")]
