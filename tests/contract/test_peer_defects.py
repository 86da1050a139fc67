"""Defects that were found in peers' code: each test here is one that the peer would fail.

The numbers are those of the project's survey of peers. Rooms test the same ground more finely.
"""

from __future__ import annotations

import keras
import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from onehull.balance import BALANCERS
from onehull.errors import ArtifactError, SpecError
from onehull.evaluate import evaluate
from onehull.metrics import StreamingAuc, auc
from onehull.model import MultiTaskModel
from onehull.records import LabelStatistics, RecordsManifest, Shard
from onehull.spec import load_spec
from onehull.spec.tasks import BinaryTask
from onehull.train.train import check_parts

TASKS = ("click", "like")


def model(**compiled) -> MultiTaskModel:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(16, activation="relu", kernel_regularizer="l2", name="bottom")(inputs)
    outputs = {task: keras.layers.Dense(1, activation="sigmoid", name=task)(hidden) for task in TASKS}
    built = MultiTaskModel(inputs=inputs, outputs=outputs)
    built.compile(**{"optimizer": keras.optimizers.SGD(0.1), "loss": "binary_crossentropy", **compiled})
    return built


def rows(count: int = 256) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    x = random.normal(size=(count, 6)).astype(np.float32)
    return x, {task: (x[:, i] + random.normal(size=count) > 0).astype(np.float32) for i, task in enumerate(TASKS)}


@pytest.mark.parametrize("balancer", [None, *sorted(BALANCERS)])
def test_2_task_weights_other_than_equal_train_also_with_a_regularisation_loss(balancer):
    x, y = rows()
    built = model(loss_weights={"click": 0.3, "like": 2.0}, balancer=balancer)
    history = built.fit(x, y, batch_size=64, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_3_units_of_a_layer_do_not_stay_identical():
    x, y = rows()
    built = model(balancer="pcgrad")
    built.fit(x, y, batch_size=64, epochs=2, verbose=0)
    hidden = keras.Model(built.input, built.get_layer("bottom").output)(x)
    assert np.linalg.matrix_rank(np.asarray(hidden)) > 8


def test_4_what_chooses_the_model_cannot_be_what_it_is_reported_on():
    document = {
        "name": "x",
        "data": {"samples": "a.csv", "split": {"by": "files", "validation": "test.csv", "test": "test.csv"}},
        "features": {"f": {"kind": "numeric"}},
        "tasks": {"click": {"kind": "binary", "label": "click"}},
    }
    with pytest.raises(SpecError, match=r"data\.split\.test must be another file"):
        load_spec(document)


def test_4_nor_a_copy_of_it_under_another_name(tmp_path):
    train, copied = (Shard(file=name, rows=8, size_bytes=1, sha256=name) for name in ("train", "copied"))
    manifest = RecordsManifest(
        inputs=(),
        tasks=("click",),
        splits={"train": (train,), "validation": (copied,), "test": (copied.model_copy(update={"file": "other"}),)},
        labels={"click": LabelStatistics(rows=8, labels=8, positives=4, mean=0.5)},
    )
    with pytest.raises(ArtifactError, match="must differ"):
        check_parts(manifest, ["click"], tmp_path)


def test_5_the_auc_of_a_task_lives_on_its_own_sample_space():
    random = np.random.default_rng(0)
    clicked = random.random(2000) < 0.4
    bought = np.where(clicked, random.random(2000) < 0.3, np.nan)
    scores = random.random(2000)
    frame = pl.DataFrame({"y.buy": pl.Series(bought, dtype=pl.Float64, nan_to_null=True), "user": ["u"] * 2000})
    task = BinaryTask(kind="binary", label="buy", observed_when="click")
    report = evaluate({"buy": task}, frame, {"buy": scores}, split="test", name="x")
    expected = roc_auc_score(bought[clicked], scores[clicked])
    everywhere = roc_auc_score(np.nan_to_num(bought), scores)
    assert report.tasks["buy"].metrics["auc"] == pytest.approx(expected, abs=1e-12)
    assert report.tasks["buy"].metrics["auc"] != pytest.approx(everywhere, abs=1e-6)


@pytest.mark.parametrize("normalizer", ["coverage", "labelled", "batch", "sum"])
def test_6_twice_the_weight_is_twice_the_gradient(normalizer):
    x, y = rows()
    y["like"][::3] = np.nan

    def gradient(weight):
        built = model(loss_weights={"click": 0.0, "like": weight}, normalizer=normalizer)
        with tf.GradientTape() as tape:
            loss = built.compute_loss(x, y, built(x), training=True) - tf.add_n(built.losses)
        return tape.gradient(loss, built.get_layer("like").kernel)

    np.testing.assert_allclose(gradient(2.0), 2 * gradient(1.0), rtol=1e-5)


def test_10_metrics_are_keyed_by_name_whatever_the_order_of_tasks():
    x, y = rows()
    built = model(metrics={task: ["AUC"] for task in TASKS})
    forward = built.evaluate(x, y, verbose=0, return_dict=True)
    backward = model(metrics={task: ["AUC"] for task in reversed(TASKS)}).evaluate(
        x, dict(reversed(y.items())), verbose=0, return_dict=True
    )
    assert forward == pytest.approx(backward)
    for task in TASKS:
        exact = roc_auc_score(y[task], np.asarray(built(x)[task])[:, 0])
        named = [value for name, value in forward.items() if name.startswith(task) and "auc" in name.lower()]
        assert named == [pytest.approx(exact, abs=0.01)]


def test_12_a_streaming_auc_is_the_global_one_and_one_class_is_undefined():
    random = np.random.default_rng(0)
    labels = (random.random(5000) < 0.02).astype(float)  # most batches hold no positive
    scores = np.clip(0.3 * labels + random.random(5000) * 0.7, 0, 1)
    streaming = StreamingAuc()
    for start in range(0, 5000, 20):
        streaming.update(labels[start : start + 20], scores[start : start + 20])
    value, bound = streaming.value(), streaming.error_bound()
    assert value is not None
    assert bound is not None
    assert abs(value - roc_auc_score(labels, scores)) <= bound + 1e-12
    assert auc(np.zeros(10), scores[:10]) is None
