"""A bundle: whole or absent, equal in all its forms, and refused when a byte has changed."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from onehull.errors import ArtifactError, ExportError
from onehull.export import bundle_versions, open_bundle
from onehull.export.examples import serialize_examples
from onehull.export.parity import TOLERANCE, check_parity
from onehull.features.tensors import raw_tensors
from onehull.pipeline import run
from onehull.pipeline.evaluation import samples_of


@pytest.fixture
def bundle_copy(small_feed, tmp_path: Path) -> Path:
    source = open_bundle(small_feed.bundle).path
    shutil.copytree(source, tmp_path / "video_feed" / "1")
    return tmp_path / "video_feed" / "1"


def test_the_manifest_says_what_is_in_it(small_feed):
    bundle = open_bundle(small_feed.bundle)
    manifest = bundle.manifest
    assert manifest.simulated
    assert manifest.tasks == {"click": "binary", "watch": "regression", "like": "binary", "purchase": "binary"}
    assert set(manifest.user_features) == {"user_id", "age_group", "city_tier", "interests", "activity"}
    assert set(manifest.context_features) == {"hour", "position", "device"}
    assert manifest.formula == "click^1 * (1 + watch)^0.5 + 4 * like + 20 * purchase"
    assert bundle.spec.name == "video_feed"
    assert bundle.metrics["tasks"]
    assert bundle.items is not None
    assert bundle.items["popularity"].sum() == pytest.approx(1.0)
    assert 0 < bundle.statistics.features["age_group"].missing_share < 0.1


def test_the_three_forms_agree_on_real_rows(small_feed):
    parity = open_bundle(small_feed.bundle).manifest.parity
    assert parity.rows > 500
    assert max(*parity.savedmodel.values(), *parity.litert.values()) <= TOLERANCE


def test_tensorflow_serving_s_signatures_take_raw_features(small_feed):
    bundle = open_bundle(small_feed.bundle)
    rows = samples_of(small_feed, "test").head(7)
    model = tf.saved_model.load(str(bundle.path))
    named = model.signatures["serving_default"](**raw_tensors(bundle.transform, rows))
    parsed = model.signatures["serve_examples"](examples=serialize_examples(bundle.transform, rows))
    assert set(named) == {"click", "watch", "like", "purchase", "fused"}
    for name in named:
        assert named[name].shape == (7,)
        np.testing.assert_allclose(named[name], parsed[name], atol=1e-6)
    scores = {name: named[name].numpy() for name in bundle.manifest.tasks}
    expected = scores["click"] * np.sqrt(1 + scores["watch"]) + 4 * scores["like"] + 20 * scores["purchase"]
    np.testing.assert_allclose(named["fused"], expected, rtol=1e-5)


def test_a_column_that_is_absent_at_serving_is_missing_and_no_error(small_feed):
    bundle = open_bundle(small_feed.bundle)
    model = tf.saved_model.load(str(bundle.path))
    empty = tf.constant([tf.train.Example().SerializeToString()])
    scores = model.signatures["serve_examples"](examples=empty)
    assert all(np.isfinite(value).all() for value in scores.values())


def test_every_changed_byte_is_noticed(bundle_copy: Path):
    random = np.random.default_rng(0)
    files = sorted(path for path in bundle_copy.rglob("*") if path.is_file())
    assert len(files) > 8
    for path in files:
        content = bytearray(path.read_bytes())
        place = int(random.integers(len(content)))
        path.write_bytes(bytes([*content[:place], content[place] ^ 1, *content[place + 1 :]]))
        with pytest.raises(ArtifactError, match=r"changed|manifest|whole bundle|format"):
            open_bundle(bundle_copy)
        path.write_bytes(content)
    open_bundle(bundle_copy)


def test_a_missing_file_is_named(bundle_copy: Path):
    (bundle_copy / "model.tflite").unlink()
    with pytest.raises(ArtifactError, match=r"model\.tflite is missing"):
        open_bundle(bundle_copy)


def test_no_bundle_is_an_error_that_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(ArtifactError, match="onehull run"):
        open_bundle(tmp_path)


def test_forms_that_disagree_are_not_exported(small_feed, bundle_copy: Path):
    bundle = open_bundle(bundle_copy)
    model = keras.models.load_model(bundle_copy / "model.keras", compile=False)
    head = model.get_layer("like")
    head.set_weights([weight + 0.01 for weight in head.get_weights()])
    rows = samples_of(small_feed, "validation").head(50)
    with pytest.raises(ExportError, match=r"task 'like' must agree with Keras within 0.0001 on 50 real rows"):
        check_parity(model, bundle.transform, rows, bundle_copy, bundle.litert_path)


def test_an_export_that_has_not_changed_is_kept_and_another_formula_is_a_new_version(small_feed, tmp_path: Path):
    from onehull.pipeline import Project

    out = tmp_path / "out"
    shutil.copytree(small_feed.out, out)
    spec = small_feed.spec
    first = run(Project.open(spec, data=small_feed.data, out=out))
    assert all(step.kept for step in first.steps)
    changed = spec.model_copy(update={"fusion": spec.fusion.model_copy(update={"formula": "click + like"})})
    second = run(Project.open(changed, data=small_feed.data, out=out))
    assert all(step.kept for step in second.steps)
    assert second.bundle.manifest.version == first.bundle.manifest.version + 1
    assert bundle_versions(out / "bundle" / "video_feed") == [1, 2]
    assert open_bundle(out / "bundle" / "video_feed").manifest.formula == "click + like"


FULL_DISK = """
import resource, sys
from pathlib import Path
import tensorflow
from onehull.errors import OneHullError
from onehull.pipeline import Project
from onehull.pipeline.bundle import export_project
from onehull.spec import load_spec
spec, data, out = sys.argv[1:]
project = Project.open(load_spec(Path(spec)), data=data, out=out)
resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
try:
    export_project(project)
except OneHullError as error:
    print("refused:", error)
"""


@pytest.mark.slow
def test_a_full_disk_leaves_older_versions_intact(small_feed, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(small_feed.out, out)
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(small_feed.spec.model_dump(mode="json")))
    arguments = [sys.executable, "-c", FULL_DISK, str(spec), str(small_feed.data), str(out)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert "refused:" in done.stdout, done.stderr[-2000:]
    assert bundle_versions(out / "bundle" / "video_feed") == [1]
    open_bundle(out / "bundle" / "video_feed")
    assert not list((out / "bundle" / "video_feed").glob(".building-*"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 30000


def test_serving_a_bundle_loads_no_tensorflow(small_feed):
    code = (
        "import sys; from onehull.export import open_bundle; b = open_bundle(sys.argv[1]); b.users; "
        "b.items; b.transform; b.statistics; b.spec; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(small_feed.bundle)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_the_tables_hold_what_the_ranker_needs(small_feed):
    bundle = open_bundle(small_feed.bundle)
    assert bundle.items is not None
    assert bundle.users is not None
    assert {"id", "x.category", "x.embedding", "show.title", "popularity"} <= set(bundle.items.columns)
    assert bundle.users.schema["x.interests"] == pl.List(pl.String)
