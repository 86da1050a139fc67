"""The context of a request, checked field by field: what is known of the moment, by column of the log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from onehull.errors import Fault, suggest
from onehull.serve.refusal import RefusalError
from onehull.spec.features import CategoricalFeature, Feature, ListFeature, NumericFeature, VectorFeature
from onehull.spec.samples import id_text

POSITION = "position"
"""Column that the service itself fills in the log: the place at which an item was shown, from 0. A request may name it,
to say at which place all candidates are to be imagined; the log holds where they really stood."""
_LARGEST = 3.4e38
_MAX_TEXT = 1024
_MAX_LIST = 1024


class ContextReader:
    """Turns the ``context`` of a request into raw values of features.

    Args:
        features: context features by name; each reads ``column``, or its own name.
    """

    def __init__(self, features: Mapping[str, Feature]) -> None:
        self.features = dict(features)
        self.fields = list(dict.fromkeys(feature.column or name for name, feature in features.items()))

    def read(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Raw value of every context feature; None is missing.

        Raises:
            RefusalError: 422 with every field that is not known, or that holds what its feature cannot read.
        """
        faults = [
            Fault(f"context.{field}", "is not a context field of this model", value, suggest(field, self.fields))
            for field, value in context.items()
            if field not in self.fields
        ]
        values: dict[str, Any] = {}
        for name, feature in self.features.items():
            field = feature.column or name
            try:
                values[name] = _value(feature, context.get(field))
            except ValueError as error:
                faults.append(Fault(f"context.{field}", str(error), context.get(field)))
        if faults:
            raise RefusalError(422, faults[:20])
        return values


def _value(feature: Feature, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(feature, CategoricalFeature):
        return _id(value)
    if isinstance(feature, NumericFeature):
        return _number(value)
    if isinstance(feature, ListFeature):
        return _ids(feature, value)
    return _vector(feature, value)


def _id(value: Any) -> str | None:
    if isinstance(value, (list, dict)):
        raise ValueError("must be one value: text, a number or true/false")
    if isinstance(value, int) and value.bit_length() > 128:
        raise ValueError("must be text or a number of at most 128 bits")
    text = id_text(value)
    if text is not None and len(text) > _MAX_TEXT:
        raise ValueError(f"must have at most {_MAX_TEXT} characters")
    return text


def _number(value: Any) -> float:
    if isinstance(value, (bool, int, float)):
        number = float(value) if not isinstance(value, int) or value.bit_length() <= 128 else math.inf
        if abs(number) <= _LARGEST:
            return number
    raise ValueError(f"must be a number between -{_LARGEST:g} and {_LARGEST:g}")


def _ids(feature: ListFeature, value: Any) -> list[str] | None:
    if feature.separator is not None and isinstance(value, str):
        value = value.split(feature.separator)
    if not isinstance(value, list) or len(value) > _MAX_LIST:
        raise ValueError(f"must be a list of at most {_MAX_LIST} ids")
    return [text for item in value if (text := _id(item)) is not None] or None


def _vector(feature: VectorFeature, value: Any) -> list[float]:
    if not isinstance(value, list) or len(value) != feature.size:
        raise ValueError(f"must be a list of {feature.size} numbers")
    return [_number(item) for item in value]
