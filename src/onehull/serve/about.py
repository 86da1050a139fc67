"""What a page needs to know of a model."""

from __future__ import annotations

from typing import Any

from onehull.serve.ranker import Ranker
from onehull.spec import Spec
from onehull.spec.bundle import Manifest
from onehull.spec.features import CategoricalFeature, Feature
from onehull.spec.tasks import MulticlassTask

_MOST_CHOICES = 50


def about(manifest: Manifest, spec: Spec, ranker: Ranker, choices: dict[str, list[str]]) -> dict[str, Any]:
    """Name, version, origin, tasks, feedback, context fields and sizes.

    Args:
        manifest: the bundle's manifest.
        spec: its spec.
        ranker: the ranker on it.
        choices: known values of categorical context features, most frequent first.
    """
    return {
        "name": manifest.name,
        "version": manifest.version,
        "created": manifest.created,
        "description": spec.description,
        "simulated": manifest.simulated,
        "tasks": {name: _task(task) for name, task in spec.tasks.items()},
        "feedback": [
            {"event": task.event, "task": name, "kind": task.kind}
            for name, task in spec.tasks.items()
            if task.event is not None
        ],
        "context": [_field(name, f, choices.get(name, [])) for name, f in ranker.context.features.items()],
        "features": {
            "user": list(manifest.user_features),
            "item": list(manifest.item_features),
            "context": list(manifest.context_features),
        },
        "users": len(ranker.users) if ranker.users is not None else 0,
        "items": len(ranker.items),
        "k": ranker.limits.k,
        "recall": ranker.limits.recall,
        "engine": spec.serving.engine,
    }


def _task(task: Any) -> dict[str, Any]:
    return {"kind": task.kind, **({"classes": task.classes} if isinstance(task, MulticlassTask) else {})}


def _field(name: str, feature: Feature, choices: list[str]) -> dict[str, Any]:
    kind = "categorical" if isinstance(feature, CategoricalFeature) else feature.kind
    return {"field": feature.column or name, "kind": kind, "choices": choices[:_MOST_CHOICES]}
