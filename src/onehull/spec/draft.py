"""What is usable of a document that may still have faults, so that rules across sections can be checked anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from onehull.spec.balance import Balance
from onehull.spec.data import Data
from onehull.spec.document import Spec
from onehull.spec.features import Feature
from onehull.spec.leakage import Leakage
from onehull.spec.model import Model
from onehull.spec.serving import Fusion
from onehull.spec.tasks import Task


@dataclass(frozen=True)
class Draft:
    """Sections that are valid on their own; a section or item with a fault is None."""

    data: Data | None = None
    features: Mapping[str, Feature | None] = field(default_factory=dict)
    tasks: Mapping[str, Task | None] = field(default_factory=dict)
    model: Model | None = None
    balance: Balance | None = None
    fusion: Fusion | None = None
    leakage: Leakage | None = None

    @classmethod
    def from_spec(cls, spec: Spec) -> Draft:
        """Everything is valid."""
        return cls(spec.data, spec.features, spec.tasks, spec.model, spec.balance, spec.fusion, spec.leakage)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], faulty: Sequence[Sequence[int | str]] = ()) -> Draft:
        """Each section, and each feature and task, is tried alone, without the keys that are faulty.

        Args:
            document: the raw document.
            faulty: paths that validation complained about.
        """
        names = {key: list(document.get(key) or ()) for key in ("features", "tasks")}
        document = _without(document, faulty)
        return cls(
            data=_try(Data, document.get("data")),
            features=_try_each(Feature, document.get("features"), names["features"]),
            tasks=_try_each(Task, document.get("tasks"), names["tasks"]),
            model=_try(Model, document.get("model", {})),
            balance=_try(Balance, document.get("balance", {"kind": "static"})),
            fusion=_try(Fusion, document.get("fusion", {})),
            leakage=_try(Leakage, document.get("leakage", {})),
        )


def _try(kind: Any, value: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _try_each(kind: Any, values: Any, names: Sequence[str]) -> dict[str, Any]:
    """The named items; one whose own content is unusable stays as None, so that references to it hold."""
    values = values if isinstance(values, Mapping) else {}
    return {str(name): _try(kind, values.get(name)) for name in names}


def _without(document: Mapping[str, Any], paths: Sequence[Sequence[int | str]]) -> dict[str, Any]:
    """A plain copy of the document without some paths."""
    plain: dict[str, Any] = _plain(document)
    for path in paths:
        node: Any = plain
        for part in path[:-1]:
            node = node[part] if isinstance(node, dict) and part in node else {}
        if path and isinstance(node, dict):
            node.pop(path[-1], None)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
