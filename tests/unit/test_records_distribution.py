"""The distribution of labels that heads of durations are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onehull.errors import ArtifactError, DataError, SpecError
from onehull.features import analyze
from onehull.pipeline.project import Project
from onehull.pipeline.steps import PREPARE, TRAIN
from onehull.records import LabelStatistics, RecordsManifest, distribution, read_manifest, write_records
from onehull.records.distribution import LabelSample
from onehull.spec import load_spec
from onehull.spec.features import NumericFeature
from onehull.spec.tasks import RegressionTask
from onehull.train.train import starting_points


def sampled(labels, durations=None, train=None, batch=100):
    sample = LabelSample("watch", None if durations is None else "duration")
    labels = np.asarray(labels, np.float32)
    train = np.ones(len(labels), bool) if train is None else train
    for start in range(0, len(labels), batch):
        rows = slice(start, start + batch)
        inputs = {} if durations is None else {"duration": durations[rows]}
        sample.add(inputs, labels[rows], train[rows])
    return sample.distribution()


def test_it_is_that_of_the_labelled_training_rows():
    labels = np.concatenate([np.arange(1001.0), np.full(50, np.nan), np.full(500, 1e6)])
    found = sampled(labels, train=np.arange(1551) < 1051)
    assert found.mean == pytest.approx(500)
    assert found.mean_log1p == pytest.approx(np.log1p(np.arange(1001)).mean())
    np.testing.assert_allclose(found.quantiles, np.quantile(np.arange(1001.0), np.linspace(0, 1, 1025)), rtol=1e-6)
    assert found.groups is None


def test_groups_have_their_own_quantiles_in_the_order_of_the_duration():
    durations = np.repeat([3, 1, 2], 600).astype(np.int32)
    labels = durations * 100.0 + np.tile(np.arange(600.0), 3) / 10
    groups = sampled(labels, durations).groups
    assert groups.feature == "duration"
    assert groups.centers == (1.0, 2.0, 3.0)
    assert [row[0] for row in groups.quantiles] == [100.0, 200.0, 300.0]
    assert all(np.diff(row).min() >= 0 for row in groups.quantiles)


def test_few_rows_are_one_group_and_a_flag_beside_the_number_is_not_read():
    durations = np.stack([np.arange(60.0), np.zeros(60)], axis=1).astype(np.float32)
    groups = sampled(np.arange(60.0), durations).groups
    assert groups.centers == (29.5,)
    assert len(groups.quantiles) == 1


def test_memory_is_bounded_and_the_ends_are_exact(monkeypatch):
    monkeypatch.setattr(distribution, "_LIMIT", 1000)
    labels = np.random.default_rng(0).permutation(20_000).astype(float)
    found = sampled(labels)
    assert found == sampled(labels)
    assert (found.quantiles[0], found.quantiles[-1]) == (0, 19_999)
    np.testing.assert_allclose(found.quantiles[512], 10_000, rtol=0.15)


def test_without_labels_there_is_none_and_without_a_logarithm_no_mean_of_it():
    assert sampled([np.nan] * 5) is None
    assert sampled([-2.0, 3.0]).mean_log1p is None


def test_shards_carry_it_for_the_heads_that_are_made_of_it(tmp_path: Path):
    labels = np.concatenate([np.arange(90.0), np.full(30, 1e6)])
    pl.DataFrame(
        {"split": ["train"] * 90 + ["validation"] * 30, "x.duration": np.tile(np.arange(60.0), 2), "y.watch": labels}
    ).write_parquet(tmp_path / "samples.parquet")
    features = {"duration": NumericFeature(kind="numeric", transform="buckets", buckets=4)}
    transform = analyze(features, pl.scan_parquet(tmp_path / "samples.parquet"))
    quantities = {"watch": "duration"}
    write_records(tmp_path / "samples.parquet", transform, ["watch"], tmp_path / "shards", quantities=quantities)
    manifest = read_manifest(tmp_path / "shards")
    found = manifest.labels["watch"].distribution
    assert found is not None
    assert (found.mean, found.quantiles[-1]) == (44.5, 89)
    assert found.groups is not None
    assert 1 <= found.groups.centers[0] <= 4  # a bucket's number, as the model gets it
    task = RegressionTask.model_validate({"kind": "regression", "head": {"kind": "wlr"}})
    assert starting_points({"watch": task}, manifest) == {"watch": found}


def test_labels_that_a_head_cannot_learn_from_are_refused():
    task = RegressionTask.model_validate({"kind": "regression", "head": {"kind": "wlr"}})
    for found, error, message in (
        (sampled([-2.0, 3.0]), DataError, r"tasks\.watch must not have negative labels.*smallest is -2"),
        (None, ArtifactError, "must know how the labels of 'watch' are distributed"),
    ):
        labels = LabelStatistics(rows=2, labels=2, positives=1, mean=0.5, distribution=found)
        manifest = RecordsManifest(inputs=(), tasks=("watch",), splits={}, labels={"watch": labels})
        with pytest.raises(error, match=message):
            starting_points({"watch": task}, manifest)


def test_another_head_needs_another_training_but_no_other_shards(tmp_path: Path):
    def project(**fields):
        task = {"kind": "regression", "label": "seconds", "duration": "length", **fields}
        spec = {
            "name": "films",
            "data": {"samples": "films.csv", "split": {"by": "random", "validation": 0.1, "test": 0.1, "group": "row"}},
            "features": {name: {"kind": "numeric"} for name in ("length", "size")},
            "tasks": {"watch": task},
        }
        return Project.open(load_spec(spec), data=tmp_path, out=tmp_path / "out")

    linear, wlr = project(head={"kind": "linear"}), project(head={"kind": "wlr"})
    by_size = project(head={"kind": "linear"}, duration="size")
    assert PREPARE.key(linear) == PREPARE.key(wlr) != PREPARE.key(by_size)
    assert TRAIN.key(linear) != TRAIN.key(wlr)


def test_d2q_groups_by_a_number():
    spec = {
        "name": "films",
        "data": {"samples": "films.csv", "split": {"by": "random", "validation": 0.1, "test": 0.1, "group": "row"}},
        "features": {"genre": {"kind": "categorical"}},
        "tasks": {"watch": {"kind": "regression", "label": "s", "duration": "genre", "head": {"kind": "d2q"}}},
    }
    with pytest.raises(SpecError, match=r"tasks\.watch\.duration must name a numeric feature"):
        load_spec(spec)
