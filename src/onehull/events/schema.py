"""The typed form of an event line: a msgspec struct that has the fields of the schema and those that the spec names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, reduce
from operator import or_
from typing import Annotated, Any

import msgspec

from onehull.spec import Spec
from onehull.spec.features import Feature, ListFeature, NumericFeature, VectorFeature
from onehull.spec.tasks import BinaryTask, MulticlassTask

_Id = str | int | float
_Scalar = str | int | float | bool


@dataclass(frozen=True)
class ValueRule:
    """What a task asks of an event's value: a field that holds a number, and for classes a whole one below a limit."""

    field: str
    classes: int | None = None


@dataclass(frozen=True)
class EventSchema:
    """What is read of a log.

    Attributes:
        context: features that read a field of ``context``, by feature name.
        columns: the field of ``context`` that each of them reads.
        values: for each kind of feedback that is a label, what its tasks ask of the event's value.
        scalars: further fields of ``context`` that are read as id text (a split column).
    """

    context: Mapping[str, Feature]
    columns: Mapping[str, str]
    values: Mapping[str, Sequence[ValueRule]]
    scalars: Sequence[str] = ()

    @cached_property
    def value_attributes(self) -> dict[str, str]:
        """Fields of feedback events that hold values, and the attribute of the decoded event that holds each."""
        names = sorted({rule.field for rules in self.values.values() for rule in rules})
        return {name: f"v{position}" for position, name in enumerate(names)}

    @cached_property
    def context_attributes(self) -> dict[str, str]:
        """Fields of ``context`` that are read, and the attribute of the decoded context that holds each."""
        names = sorted({*self.columns.values(), *self.scalars})
        return {name: f"f{position}" for position, name in enumerate(names)}

    @cached_property
    def decoder(self) -> msgspec.json.Decoder[Any]:
        """Decodes one line to a struct: event, time, id, impression, user, item, context, and ``v<n>`` for values."""
        values = {attribute: name for name, attribute in self.value_attributes.items()}
        fields: list[tuple[str, Any, Any]] = [
            ("event", str, msgspec.NODEFAULT),
            ("time", datetime | float, msgspec.NODEFAULT),
            ("id", _Id | None, None),
            ("impression", _Id | None, None),
            ("user", _Id | None, None),
            ("item", _Id | None, None),
            ("context", self._context_type() | None, None),
            *((attribute, Any, None) for attribute in values),
        ]
        return msgspec.json.Decoder(msgspec.defstruct("Event", fields, rename=values, gc=False))

    def _context_type(self) -> Any:
        names = {attribute: name for name, attribute in self.context_attributes.items()}
        fields: list[tuple[str, Any, Any]] = [(attr, self._field_type(name), None) for attr, name in names.items()]
        return msgspec.defstruct("Context", fields, rename=names, gc=False)

    def _field_type(self, name: str) -> Any:
        readers = [self.context[feature] for feature, column in self.columns.items() if column == name]
        return reduce(
            or_, [_json_type(feature) for feature in readers], _Scalar | None if name in self.scalars else None
        )


def event_schema(spec: Spec, context: Sequence[str], scalars: Sequence[str] = ()) -> EventSchema:
    """What a spec reads of an event log.

    Args:
        spec: the spec.
        context: features that come from the impression's ``context``.
        scalars: further fields of ``context``.
    """
    values: dict[str, list[ValueRule]] = {}
    for task in spec.tasks.values():
        if task.event is None:
            continue
        rules = values.setdefault(task.event, [])
        if isinstance(task, MulticlassTask):
            rules.append(ValueRule(task.value or "value", task.classes))
        elif not isinstance(task, BinaryTask):
            rules.append(ValueRule(task.value or "value"))
    features = {name: spec.features[name] for name in context}
    columns = {name: feature.column or name for name, feature in features.items()}
    return EventSchema(features, columns, values, scalars)


def _json_type(feature: Feature) -> Any:
    """JSON types that a feature accepts; an integer passes as a float."""
    if isinstance(feature, NumericFeature):
        return float | bool | None
    if isinstance(feature, VectorFeature):
        return Annotated[list[float], msgspec.Meta(min_length=feature.size, max_length=feature.size)] | None
    if isinstance(feature, ListFeature) and feature.separator is None:
        return list[_Scalar | None] | None
    return _Scalar | None
