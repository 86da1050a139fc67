"""Fixtures of the ranking service: a small bundle on disk, with a plain-function scorer or a real LiteRT model."""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from onehull.features import Transform
from onehull.features.transform import BucketsTransform, MomentsTransform, VocabularyTransform
from onehull.spec import dump_spec, load_spec
from onehull.spec.bundle import FeatureStatistics, FileEntry, Manifest, Parity, Statistics

CATEGORIES = ("sailing", "cooking", "music", "space", "gardening")
HOURS = tuple(str(hour) for hour in range(24))
ITEMS = 120
USERS = 40

SPEC: dict[str, Any] = {
    "name": "harbour",
    "data": {
        "events": {"impressions": "impressions-*.jsonl", "feedback": "feedback-*.jsonl"},
        "tables": {"user": {"path": "users.csv", "key": "user"}, "item": {"path": "items.csv", "key": "item"}},
        "split": {"by": "time", "validation": "1d", "test": "1d"},
    },
    "features": {
        "user": {"kind": "categorical"},
        "interest": {"kind": "categorical"},
        "age": {"kind": "numeric"},
        "item": {"kind": "categorical"},
        "category": {"kind": "categorical"},
        "tags": {"kind": "list", "max_length": 3},
        "duration": {"kind": "numeric", "transform": "buckets"},
        "hour": {"kind": "categorical", "column": "hour_of_day"},
        "temperature": {"kind": "numeric"},
    },
    "tasks": {
        "click": {"kind": "binary", "event": "click", "window": "30m"},
        "like": {"kind": "binary", "event": "like", "window": "1d"},
        "watch": {"kind": "regression", "event": "watch", "value": "value", "window": "1h"},
    },
    "fusion": {"formula": "click^1.0 * (1 + watch)^0.5 + 4 * like"},
    "serving": {"k": 10, "recall": 100, "max_candidates": 200, "display": {"title": "title"}},
    "monitoring": {"window_rows": 200},
}

TRANSFORM = Transform(
    features={
        "user": VocabularyTransform(values=tuple(f"u{i}" for i in range(USERS))),
        "interest": VocabularyTransform(values=CATEGORIES),
        "age": MomentsTransform(mean=40.0, std=12.0, has_missing=True),
        "item": VocabularyTransform(values=tuple(f"i{i}" for i in range(ITEMS - 20))),
        "category": VocabularyTransform(values=CATEGORIES),
        "tags": VocabularyTransform(values=("short", "long", "live"), bag={"length": 3, "pooling": "mean"}),  # type: ignore[arg-type]
        "duration": BucketsTransform(boundaries=(30.0, 60.0, 120.0)),
        "hour": VocabularyTransform(values=HOURS),
        "temperature": MomentsTransform(mean=10.0, std=8.0, has_missing=True),
    }
)


def users_table() -> pl.DataFrame:
    rows = range(USERS)
    return pl.DataFrame(
        {
            "id": [f"u{i}" for i in rows],
            "x.user": [f"u{i}" for i in rows],
            "x.interest": [CATEGORIES[i % 5] for i in rows],
            "x.age": [None if i % 10 == 9 else 18.0 + i for i in rows],
        }
    )


def items_table() -> pl.DataFrame:
    rows = range(ITEMS)
    return pl.DataFrame(
        {
            "id": [f"i{i}" for i in rows],
            "x.item": [f"i{i}" for i in rows],
            "x.category": [CATEGORIES[i % 5] for i in rows],
            "x.tags": [[("short", "long", "live")[i % 3]] if i % 4 else None for i in rows],
            "x.duration": [10.0 + 3 * i for i in rows],
            "show.title": [f"{CATEGORIES[i % 5].title()} in the harbour, part {i}" for i in rows],
            "show.subtitle": [CATEGORIES[i % 5] for i in rows],
            "show.duration_s": [10.0 + 3 * i for i in rows],
            "popularity": [1.0 / (1 + i) for i in rows],
        },
        schema_overrides={"x.tags": pl.List(pl.String)},
    )


def write_bundle(directory: Path, extra: Mapping[str, bytes] | None = None, **spec_changes: Any) -> Path:
    """A bundle with everything that the ranker reads; `extra` files (the model) go in as they are."""
    spec = load_spec({**SPEC, **spec_changes})
    directory.mkdir(parents=True)
    (directory / "spec.json").write_text(dump_spec(spec))
    TRANSFORM.save(directory / "transform.json")
    features = {name: FeatureStatistics(missing_share=0.05) for name in spec.features}
    (directory / "statistics.json").write_text(Statistics(rows={}, features=features, tasks={}).model_dump_json())
    users_table().write_parquet(directory / "users.parquet")
    items_table().write_parquet(directory / "items.parquet")
    for name, content in (extra or {}).items():
        (directory / name).write_bytes(content)
    manifest = Manifest(
        name=spec.name,
        version=int(directory.name) if directory.name.isdigit() else 1,
        created="2026-01-01T00:00:00+00:00",
        onehull="0",
        tensorflow="0",
        keras="0",
        simulated=True,
        formula=str(spec.fusion.formula),
        tasks={name: task.kind for name, task in spec.tasks.items()},
        inputs=TRANSFORM.inputs,
        user_features=("user", "interest", "age"),
        item_features=("item", "category", "tags", "duration"),
        context_features=("hour", "temperature"),
        parity=Parity(rows=0, savedmodel={}, litert={}),
        files={
            p.name: FileEntry(sha256=hashlib.sha256(p.read_bytes()).hexdigest(), size_bytes=p.stat().st_size)
            for p in sorted(directory.iterdir())
        },
    )
    text = manifest.model_dump_json(indent=1).encode()
    (directory / "manifest.json").write_bytes(text)
    (directory / "manifest.sha256").write_text(hashlib.sha256(text).hexdigest())
    return directory


def plain_scores(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A scorer that a reader can follow: people click on what they are interested in and watch what is long."""
    match = (inputs["interest"] == inputs["category"]).astype(np.float32)
    evening = (inputs["hour"] >= 2 + 18).astype(np.float32)
    item = inputs["item"].astype(np.float32) / 1000
    return {
        "click": 0.2 + 0.5 * match + 0.1 * evening + item,
        "like": 0.01 + 0.1 * (inputs["tags"][:, 0] == 4) + item / 10,
        "watch": inputs["duration"].astype(np.float32) * (5 + 10 * match),
    }


@pytest.fixture
def tables():
    """The small bundle's spec as a document, its users and its items."""
    return SPEC, users_table(), items_table()


@pytest.fixture
def bundle_directory(tmp_path):
    return write_bundle(tmp_path / "harbour" / "1")


@pytest.fixture
def make_ranker(tmp_path):
    """A ranker on the small bundle with a plain-function scorer."""
    from onehull.export import open_bundle
    from onehull.serve.build import ranker_of
    from onehull.serve.engine import Engine, array_encoders

    def make(scorer=plain_scores, **spec_changes):
        bundle = open_bundle(write_bundle(tmp_path / "ranker" / "1", **spec_changes))
        encoders = array_encoders(bundle.transform)
        return ranker_of(bundle, Engine(encoders, encoders, scorer))

    return make


@pytest.fixture
def make_service(tmp_path):
    """A service on the small bundle with a plain-function scorer; closed at the end."""
    from onehull.export import open_bundle
    from onehull.serve.app import build_service
    from onehull.serve.build import ranker_of
    from onehull.serve.engine import Engine, array_encoders

    services: list[Any] = []

    def make(scorer=plain_scores, events="events", **spec_changes):
        bundle = open_bundle(write_bundle(tmp_path / "service" / str(len(services) + 1), **spec_changes))
        encoders = array_encoders(bundle.transform)
        ranker = ranker_of(bundle, Engine(encoders, encoders, scorer))
        service = build_service(bundle, tmp_path / events if events else None, ranker)
        services.append(service)
        return service

    yield make
    for service in services:
        service.close()


@pytest.fixture
def client_of():
    """Opens Starlette's test client on an application; errors of ours come back as the 500 that a client would see."""
    with warnings.catch_warnings():
        # Starlette 1.1 and later prefer httpx2, and say so; httpx still works and is what the field has.
        warnings.simplefilter("ignore")
        from starlette.testclient import TestClient
    return lambda app: TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="session")
def litert_model():
    """A real LiteRT model with the inputs and tasks of the small bundle, exported from Keras (seeded, untrained)."""
    keras = pytest.importorskip("keras")
    tf = pytest.importorskip("tensorflow")
    keras.utils.set_random_seed(7)
    inputs, parts = {}, []
    for spec in TRANSFORM.inputs:
        inputs[spec.name] = keras.Input(spec.shape, dtype=spec.dtype, name=spec.name)
        if spec.kind == "dense":
            parts.append(inputs[spec.name])
            continue
        vectors = keras.layers.Embedding(spec.rows, 8, embeddings_initializer="normal")(inputs[spec.name])
        parts.append(vectors if spec.kind == "id" else keras.layers.GlobalAveragePooling1D()(vectors))
    hidden = keras.layers.Dense(16, "relu", kernel_initializer="he_normal")(keras.layers.Concatenate()(parts))
    ends = {"click": "sigmoid", "like": "sigmoid", "watch": "softplus"}
    outputs = {
        task: keras.layers.Dense(1, end, kernel_initializer=keras.initializers.RandomNormal(0, 4))(hidden)
        for task, end in ends.items()
    }
    model = keras.Model(inputs, outputs)
    signature = {i.name: tf.TensorSpec((None, *i.shape), i.dtype, name=i.name) for i in TRANSFORM.inputs}

    def score(values):
        return {task: tf.squeeze(value, -1) for task, value in model(values, training=False).items()}

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", score, input_signature=[signature])
    with tempfile.TemporaryDirectory() as directory:
        archive.write_out(directory, verbose=False)
        content = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=["serving_default"]).convert()
    return model, content


@pytest.fixture(scope="session")
def litert_bundle(litert_model, tmp_path_factory):
    """The small bundle with the real model: a path that `serve` takes."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "harbour" / "1", {"model.tflite": litert_model[1]})


@pytest.fixture
def read_log():
    """Lines of the event log's files whose name begins with a word."""

    def read(directory: Path, stream: str) -> list[dict[str, Any]]:
        files = sorted(directory.glob(f"{stream}-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    return read
