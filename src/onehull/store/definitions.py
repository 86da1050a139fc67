"""Feast's objects of a spec: an entity, a file source and a view for each attribute table, and one service of all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from onehull.spec.features import Feature, ListFeature, NumericFeature, VectorFeature
from onehull.store.connect import offline_file
from onehull.store.views import FROM, FROM_US, KEY, View

if TYPE_CHECKING:
    from feast import FeatureStore


def define(feast: FeatureStore, name: str, views: list[View]) -> None:
    """Registers the views of a spec, and removes those that an earlier spec has left.

    Args:
        feast: an open store.
        name: of the service that reads all features.
        views: the views.
    """
    from feast import FeatureService

    made = {view.entity: _objects(view) for view in views}
    left: list[Any] = [view for view in feast.list_feature_views() if view.name not in made]
    service = FeatureService(name=name, features=[view for _, view in made.values()])
    objects = [part for parts in made.values() for part in parts]
    feast.apply([*objects, service], objects_to_delete=left, partial=False)


def _objects(view: View) -> tuple[Any, Any]:
    from feast import Entity, FeatureView, Field, FileSource
    from feast.types import Int64, String
    from feast.value_type import ValueType

    entity = Entity(name=view.entity, join_keys=[KEY], value_type=ValueType.STRING)
    fields = {KEY: String, FROM_US: Int64, **_types(view.features)}
    source = FileSource(name=f"{view.entity}_rows", path=offline_file(view.entity), timestamp_field=FROM)
    return entity, FeatureView(
        name=view.entity,
        entities=[entity],
        schema=[Field(name=name, dtype=kind) for name, kind in fields.items()],
        source=source,
        # No time to live: training reads old values, too. What is stale is told at the read.
        ttl=timedelta(0),
    )


def _types(features: Mapping[str, Feature]) -> dict[str, Any]:
    from feast.types import Array, Float32, Float64, String

    def kind(feature: Feature) -> Any:
        if isinstance(feature, NumericFeature):
            return Float64
        if isinstance(feature, ListFeature):
            return Array(String)
        return Array(Float32) if isinstance(feature, VectorFeature) else String

    return {name: kind(feature) for name, feature in features.items()}
