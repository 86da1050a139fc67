from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
import pytest

from onehull.errors import ArtifactError
from onehull.export import open_bundle
from onehull.serve import Ranker, RankRequest
from onehull.serve.build import ranker_of
from onehull.serve.engine import Engine, RawEncoder, array_encoders, litert_scorer, savedmodel_scorer


def test_the_ranker_gives_the_scores_of_the_keras_model(litert_bundle, litert_model):
    bundle = open_bundle(litert_bundle)
    assert bundle.items is not None
    assert bundle.users is not None
    response = Ranker.open(bundle).rank(RankRequest(user="u3", context={"hour_of_day": 20, "temperature": 12.5}, k=100))
    items = bundle.items.filter(pl.col("id").is_in([item.id for item in response.items]))
    user = bundle.users.filter(pl.col("id") == "u3")
    count = len(items)
    rows = {name: items[f"x.{name}"].to_list() for name in bundle.manifest.item_features}
    rows |= {name: user[f"x.{name}"].to_list() * count for name in bundle.manifest.user_features}
    rows |= {"hour": ["20"] * count, "temperature": [12.5] * count}
    encoded = array_encoders(bundle.transform)(tuple(bundle.transform.features)).encode(rows, count)
    expected = {task: np.asarray(value)[:, 0] for task, value in _by_task(litert_model[0], encoded).items()}
    place = {key: row for row, key in enumerate(items["id"])}
    for item in response.items:
        for task, value in item.scores.items():
            assert value == pytest.approx(float(expected[task][place[item.id]]), abs=1e-5)


def _by_task(model, encoded):
    return model(encoded, training=False)


def test_threads_and_batches_of_any_size_get_their_own_scores(litert_bundle):
    ranker = Ranker.open(litert_bundle)
    requests = [RankRequest(user=f"u{n}", candidates=[f"i{i}" for i in range(1 + 9 * n)], k=200) for n in range(12)]
    alone = [[item.score for item in ranker.rank(request).items] for request in requests]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            together = [[item.score for item in response.items] for response in pool.map(ranker.rank, requests)]
            assert together == alone


def test_a_file_that_is_no_model_is_told(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"not a model")
    with pytest.raises(ArtifactError, match=r"model\.tflite is not a LiteRT model"):
        litert_scorer(tmp_path / "model.tflite")


def test_ranking_with_litert_loads_no_tensorflow(litert_bundle):
    code = (
        "import sys; from onehull.serve import Ranker, RankRequest, create_app;"
        "assert Ranker.open(sys.argv[1]).rank(RankRequest(user='u1')).items; create_app(sys.argv[1]);"
        "assert not {'tensorflow', 'keras'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code, str(litert_bundle)], check=True)


def test_raw_values_take_the_form_of_the_savedmodel(bundle_directory):
    bundle = open_bundle(bundle_directory)
    encoder = RawEncoder(bundle.spec.features)
    raw = encoder.encode({"user": ["u1"], "age": [None], "tags": [["short", None, "long", "live"]]}, 1)
    assert raw["user"].tolist() == ["u1"]
    assert raw["category"].tolist() == [""]
    assert np.isnan(raw["age"]).all()
    assert raw["tags"].tolist() == [["short", "", "long"]]
    assert bundle.items is not None
    assert len(encoder.encode_frame(bundle.items)["tags"]) == len(bundle.items)


def test_a_bundle_without_items_is_refused(tmp_path, make_ranker):
    class WithoutItems:
        spec = manifest = users = path = None
        items = None

    encoders = array_encoders(None)  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="has no items to rank"):
        ranker_of(WithoutItems(), Engine(encoders, encoders, dict))  # type: ignore[arg-type]


def test_the_savedmodel_gets_raw_values_of_user_item_and_context(tmp_path, bundle_directory):
    tf = pytest.importorskip("tensorflow")
    texts, numbers = ("user", "interest", "item", "category", "hour"), ("age", "duration", "temperature")
    signature = {name: tf.TensorSpec((None,), tf.string, name=name) for name in texts}
    signature |= {name: tf.TensorSpec((None,), tf.float32, name=name) for name in numbers}
    signature["tags"] = tf.TensorSpec((None, None), tf.string, name="tags")

    class Model(tf.Module):  # type: ignore[name-defined]
        @tf.function(input_signature=[signature])
        def score(self, x):
            likes = tf.reduce_any(x["tags"] == "live", axis=1) & (x["hour"] == "20")
            click = tf.cast(x["interest"] == x["category"], tf.float32) + tf.zeros_like(x["temperature"])
            watch = tf.where(tf.math.is_nan(x["age"]), -1.0, x["duration"])
            return {"click": click, "like": tf.cast(likes, tf.float32), "watch": watch, "fused": click}

    model = Model()
    tf.saved_model.save(model, str(tmp_path / "model"), signatures={"serving_default": model.score})
    bundle = open_bundle(bundle_directory)
    features = bundle.spec.features
    engine = Engine(
        lambda names: RawEncoder({name: features[name] for name in names}),
        array_encoders(bundle.transform),
        savedmodel_scorer(tmp_path / "model"),
    )
    ranker = ranker_of(bundle, engine)
    request: dict[str, Any] = {
        "context": {"hour_of_day": 20, "temperature": 3},
        "candidates": ["i0", "i1", "i5"],
    }
    items = {item.id: item.scores for item in ranker.rank(RankRequest(user="u0", **request)).items}
    assert items["i0"] == {"click": 1.0, "like": 0.0, "watch": 10.0}
    assert items["i5"] == {"click": 1.0, "like": 1.0, "watch": 25.0}
    assert items["i1"]["click"] == 0.0
    stranger = ranker.rank(RankRequest(user="nobody", **request))
    assert {item.scores["watch"] for item in stranger.items} == {-1.0}
    assert stranger.trace.unseen["user"] == 3
