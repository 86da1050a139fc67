"""From a bundle to a ranker: the one place of the ranking path that reads the spec."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from onehull.errors import ArtifactError
from onehull.export import Bundle
from onehull.fusion import parse_formula
from onehull.serve.catalogue import EntityTable, encode_table
from onehull.serve.context import ContextReader
from onehull.serve.engine import Engine
from onehull.serve.ranker import Limits, Ranker
from onehull.serve.recall import most_popular
from onehull.spec.bundle import ID_COLUMN, POPULARITY_COLUMN
from onehull.spec.samples import feature_column


def ranker_of(bundle: Bundle, engine: Engine) -> Ranker:
    """Builds a ranker from a bundle's parts.

    Raises:
        ArtifactError: the bundle has no items to rank.
    """
    spec, manifest, items, users = bundle.spec, bundle.manifest, bundle.items, bundle.users
    if items is None or not len(items):
        remedy = "A ranker needs data.item in the spec; score such a model with TensorFlow Serving."
        raise ArtifactError(f"{bundle.path} has no items to rank. {remedy}")
    with_vocabulary = tuple(n for n, f in spec.features.items() if getattr(f, "encoding", None) == "vocabulary")
    encode_items = _item_encoder(bundle, engine, with_vocabulary)
    catalogue = encode_items(items)
    user_features = manifest.user_features
    user_column = spec.data.user
    row_features = (*user_features, *manifest.context_features)
    return Ranker(
        model={"name": manifest.name, "version": manifest.version},
        tasks=manifest.tasks,
        items=catalogue,
        users=encode_table(users, user_features, engine, with_vocabulary) if users is not None else None,
        context=ContextReader({name: spec.features[name] for name in manifest.context_features}),
        row_encoder=engine.encoder_of(row_features),
        row_ids=None if engine.ids_of is engine.encoder_of else engine.ids_of(row_features),
        scorer=engine.scorer,
        formula=parse_formula(manifest.formula, manifest.tasks),
        recall=most_popular(catalogue.popularity, catalogue.id_order_N),
        unseen_in=with_vocabulary,
        user_features=user_features,
        user_id_features=tuple(n for n in user_features if (spec.features[n].column or n) == user_column),
        limits=Limits(spec.serving.k, spec.serving.recall, spec.serving.max_candidates),
        encode_items=encode_items,
    )


def _item_encoder(
    bundle: Bundle, engine: Engine, with_vocabulary: tuple[str, ...]
) -> Callable[[pl.DataFrame], EntityTable]:
    """Encodes tables of items, the bundle's and later ones, for which it says how popular an item is."""
    features = bundle.manifest.item_features
    popularity = None if bundle.items is None else bundle.items.select(pl.col(ID_COLUMN, f"^{POPULARITY_COLUMN}$"))

    def encode(items: pl.DataFrame) -> EntityTable:
        absent = [name for name in features if feature_column(name) not in items.columns]
        if absent or items.is_empty():
            fault = f"lacks features that the bundle reads: {', '.join(absent)}" if absent else "holds no item"
            raise ArtifactError(f"The table of items {fault}. Make it from the bundle's spec.")
        if POPULARITY_COLUMN not in items.columns and popularity is not None:
            items = items.join(popularity, on=ID_COLUMN, how="left", maintain_order="left")  # new ones: null, that is 0
        return encode_table(items, features, engine, with_vocabulary)

    return encode
