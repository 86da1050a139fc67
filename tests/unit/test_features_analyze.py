"""Analysis sees the training rows alone, is exact and repeatable, and takes odd columns as they come."""

import math
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onehull.errors import ArtifactError, DataError
from onehull.features import ArrayTransform, Transform, analyze, feature_statistics
from onehull.features.quantiles import equal_frequency_boundaries
from onehull.features.transform import BucketsTransform, VocabularyTransform
from onehull.spec.features import CategoricalFeature, Feature, ListFeature, NumericFeature, VectorFeature
from onehull.spec.inputs import UNSEEN_ID, ModelInput

SEEN = CategoricalFeature(kind="categorical", min_count=1)
NUMBER = NumericFeature(kind="numeric")
BUCKETS = NumericFeature(kind="numeric", transform="buckets", buckets=4)


def train(**columns: Any) -> pl.LazyFrame:
    rows = len(next(iter(columns.values())))
    frame = {"split": ["train"] * rows, **{f"x.{name}": values for name, values in columns.items()}}
    return pl.LazyFrame(frame, strict=False)


def part(transform: Transform, name: str) -> Any:
    return transform.features[name]


def test_only_training_rows_are_seen():
    frame = pl.LazyFrame(
        {
            "split": ["train", "validation", "train", "test"],
            "x.id": ["a", "leak", "b", "leak"],
            "x.tags": [["a"], ["leak"], None, ["leak"]],
            "x.number": [1.0, 1e9, 3.0, 1e9],
            "x.bucket": [1.0, 1e9, 3.0, -1e9],
        }
    )
    features: dict[str, Feature] = {
        "id": SEEN,
        "tags": ListFeature(kind="list", min_count=1),
        "number": NUMBER,
        "bucket": BUCKETS,
    }
    transform = analyze(features, frame)
    assert transform == analyze(features, frame.filter(pl.col("split") == "train"))
    assert part(transform, "id").values == ("a", "b")
    assert part(transform, "tags").values == ("a",)
    assert part(transform, "number").mean == 2.0
    assert part(transform, "bucket").boundaries == (3.0,)
    assert ArrayTransform(transform).encode({"id": ["leak"]}, 1)["id"].tolist() == [UNSEEN_ID]


def test_ids_are_ordered_by_count_then_text_and_rare_ones_are_left_out():
    samples = train(id=["b", "a", "c", "b", "a", "once", None, "", "d", "d", "d"])
    kept = part(analyze({"id": CategoricalFeature(kind="categorical", min_count=2)}, samples), "id")
    assert kept.values == ("d", "a", "b")
    largest = analyze({"id": CategoricalFeature(kind="categorical", min_count=1, max_size=2)}, samples)
    assert part(largest, "id").values == ("d", "a")


def test_the_order_of_rows_does_not_matter():
    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "split": "train",
            "x.id": random.integers(0, 3000, 20_000).astype(str),
            "x.number": random.lognormal(size=20_000),
            "x.bucket": random.normal(size=20_000),
        }
    )
    features: dict[str, Feature] = {"id": SEEN, "number": NUMBER, "bucket": BUCKETS}
    assert analyze(features, frame.lazy()) == analyze(features, frame.sample(fraction=1, shuffle=True, seed=1).lazy())


def test_list_ids_beyond_the_longest_list_are_not_learnt():
    samples = train(tags=[["a", "", "b", "late"], ["a"], [], None])
    feature = ListFeature(kind="list", min_count=1, max_length=2, pooling="sum", separator="|", dim=4)
    transform = analyze({"tags": feature}, samples)
    assert part(transform, "tags").values == ("a", "b")
    assert transform.inputs == (ModelInput(name="tags", kind="ids", rows=4, dim=4, length=2, pooling="sum"),)


def test_moments_are_those_of_finite_numbers():
    values = [1.0, 2.0, 4.0, None, math.nan, math.inf, -math.inf, 1e300]
    found = part(analyze({"n": NUMBER}, train(n=values)), "n")
    assert found.mean == pytest.approx(7 / 3)
    assert found.std == pytest.approx(np.std([1, 2, 4]))
    assert found.has_missing
    log = part(analyze({"n": NumericFeature(kind="numeric", transform="log1p")}, train(n=[-3.0, 0.0, 8.0])), "n")
    expected = np.sign([-3, 0, 8]) * np.log1p(np.abs([-3, 0, 8]))
    assert log.mean == pytest.approx(expected.mean())
    assert log.std == pytest.approx(expected.std())
    assert log.log1p
    assert not log.has_missing


def test_a_missing_flag_is_there_only_where_training_had_missing_values():
    transform = analyze({"whole": NUMBER, "holes": NUMBER}, train(whole=[1.0, 2.0], holes=[1.0, None]))
    assert [entry.length for entry in transform.inputs] == [1, 2]


def test_a_large_mean_does_not_swallow_a_small_spread():
    found = part(analyze({"n": NUMBER}, train(n=[1e7, 1e7 + 1, 1e7 + 2])), "n")
    assert found.std == pytest.approx(math.sqrt(2 / 3))


@pytest.mark.parametrize("values", [[0.1] * 1000, [None] * 3, [math.nan, math.inf, 1e300]])
def test_constant_and_empty_columns_encode_as_zero(values: list[Any]):
    features = {"n": NUMBER, "b": BUCKETS}
    samples = train(n=values, b=values)
    transform = analyze(features, samples)
    assert part(transform, "n").std == 0.0
    encoded = ArrayTransform(transform).encode({"n": [5.0, None], "b": [5.0, None]}, 2)
    assert encoded["n"][:, 0].tolist() == [0.0, 0.0]
    assert encoded["b"].tolist() == [1, 0]
    statistics = feature_statistics(transform, samples)
    assert statistics["n"].missing_share == (0.0 if values[0] == 0.1 else 1.0)


def test_a_feature_that_training_never_saw_is_allowed_and_shown():
    features: dict[str, Feature] = {
        "id": CategoricalFeature(kind="categorical"),
        "hashed": CategoricalFeature(kind="categorical", encoding="hash", buckets=7),
        "tags": ListFeature(kind="list"),
        "vector": VectorFeature(kind="vector", size=2),
    }
    samples = train(**{name: [None, None] for name in features})
    transform = analyze(features, samples)
    assert [entry.rows for entry in transform.inputs] == [2, 8, 2, 0]
    assert {share.missing_share for share in feature_statistics(transform, samples).values()} == {1.0}


def test_huge_unicode_and_number_like_ids_stay_apart():
    ids = [
        "9223372036854775807",
        "9223372036854775806",
        "1.0",
        "1",
        "01",
        "NaN",
        "ü",
        "u\u0308",
        "🚢",
        "[UNK]",
        " a",
        "a",
    ]
    transform = analyze({"id": SEEN}, train(id=ids))
    encoded = ArrayTransform(transform).encode({"id": ids}, len(ids))["id"]
    assert sorted(encoded.tolist()) == list(range(2, 2 + len(ids)))
    assert ArrayTransform(transform).encode({"id": [2**63 - 1]}, 1)["id"][0] == encoded[0]


def test_one_user_and_one_row_are_enough():
    transform = analyze({"id": SEEN, "n": NUMBER, "b": BUCKETS}, train(id=["only"], n=[3.0], b=[3.0]))
    assert part(transform, "id") == VocabularyTransform(values=("only",))
    assert part(transform, "b") == BucketsTransform(boundaries=())


def test_statistics_count_missing_in_training_and_unseen_in_validation():
    frame = pl.LazyFrame(
        {
            "split": ["train"] * 4 + ["validation"] * 4,
            "x.id": ["a", "a", "b", None, "a", "b", "new", None],
            "x.tags": [["a"], [], None, ["a", "b"], ["a", "new", "new"], [""], None, ["b"]],
            "x.number": [1.0, math.nan, math.inf, None] * 2,
            "x.vector": [[1.0], [None], None, [2.0]] * 2,
        }
    )
    features: dict[str, Feature] = {
        "id": SEEN,
        "tags": ListFeature(kind="list", min_count=1),
        "number": NUMBER,
        "vector": VectorFeature(kind="vector", size=1),
    }
    found = feature_statistics(analyze(features, frame), frame)
    assert {name: share.missing_share for name, share in found.items()} == {
        "id": 0.25,
        "tags": 0.5,
        "number": 0.75,
        "vector": 0.5,
    }
    assert found["id"].unseen_share == pytest.approx(1 / 3)
    assert found["tags"].unseen_share == pytest.approx(2 / 4)
    assert found["number"].unseen_share == 0.0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"other": ["a"]}, r"column 'x\.id' is absent"),
        ({"id": [1]}, r"column 'x\.id' must hold text. Received Int64"),
        ({"id": [["a"]]}, r"column 'x\.id' must hold text. Received List"),
    ],
)
def test_a_table_of_another_form_is_refused_by_column(columns: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        analyze({"id": SEEN}, train(**columns))


def test_vectors_of_another_size_and_tables_without_training_rows_are_refused():
    with pytest.raises(DataError, match=r"vectors of size 3, .* Received one of size 2"):
        analyze({"v": VectorFeature(kind="vector", size=3)}, train(v=[[1.0, 2.0, 3.0], [1.0, 2.0]]))
    with pytest.raises(DataError, match="at least one row 'train'"):
        analyze({"id": SEEN}, pl.LazyFrame({"split": ["test"], "x.id": ["a"]}))
    with pytest.raises(DataError, match="column 'split' is absent"):
        analyze({"id": SEEN}, pl.LazyFrame({"x.id": ["a"]}))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=200), st.integers(2, 20))
def test_every_bucket_holds_a_value_and_boundaries_ascend(values: list[float], buckets: int):
    column = np.array(values, np.float32)
    boundaries = equal_frequency_boundaries(column, buckets)
    assert len(boundaries) <= max(0, min(buckets, len(set(values))) - 1)
    assert list(boundaries) == sorted(set(boundaries))
    found = np.searchsorted(np.array(boundaries, np.float32), column, side="right")
    assert set(found.tolist()) == (set(range(len(boundaries) + 1)) if values else set())


def test_buckets_are_quantiles_and_a_frequent_value_gets_one_bucket():
    assert equal_frequency_boundaries(np.arange(100, dtype=np.float32), 4) == (25.0, 50.0, 75.0)
    mostly_zero = np.array([0.0] * 900 + list(range(1, 101)), np.float32)
    assert equal_frequency_boundaries(mostly_zero, 5) == (1.0, 26.0, 51.0, 76.0)
    two_piles = np.array([0.0] * 500 + list(range(1, 31)) + [31.0] * 500, np.float32)
    assert equal_frequency_boundaries(two_piles, 5) == (1.0, 11.0, 21.0, 31.0)


def test_no_bucket_is_much_larger_than_the_others_unless_one_value_fills_it():
    random = np.random.default_rng(0)
    column = np.concatenate([random.normal(size=5000), np.zeros(3000), np.full(2000, 1.5)]).astype(np.float32)
    boundaries = np.array(equal_frequency_boundaries(column, 12), np.float32)
    bucket = np.searchsorted(boundaries, column, side="right")
    sizes = [np.unique(column[bucket == place]).size == 1 or np.sum(bucket == place) for place in range(12)]
    assert sizes.count(True) == 2
    assert all(250 <= size <= 750 for size in sizes if size is not True)


def test_a_transform_survives_its_file(tmp_path: Path):
    features: dict[str, Feature] = {
        "id": SEEN,
        "hashed": ListFeature(kind="list", encoding="hash", buckets=9),
        "n": NUMBER,
        "b": BUCKETS,
        "v": VectorFeature(kind="vector", size=2),
    }
    samples = train(id=["ü\n", "b"], hashed=[["a"], None], n=[0.1, 0.7], b=[0.1, 1e-30], v=[[1.0, 2.0], None])
    transform = analyze(features, samples)
    transform.save(tmp_path / "transform.json")
    assert Transform.load(tmp_path / "transform.json") == transform
    assert [path.name for path in tmp_path.iterdir()] == ["transform.json"]


def test_files_that_are_no_transform_are_refused(tmp_path: Path):
    path = tmp_path / "transform.json"
    with pytest.raises(ArtifactError, match="cannot be read"):
        Transform.load(path)
    path.write_text('{"format": 2, "features": {}}')
    with pytest.raises(ArtifactError, match="format"):
        Transform.load(path)
    path.write_text('{"format": 1')
    with pytest.raises(ArtifactError, match=r"transform\.json"):
        Transform.load(path)


def test_a_full_disk_leaves_the_last_good_file(tmp_path: Path):
    good = analyze({"id": SEEN}, train(id=["a"]))
    good.save(tmp_path / "transform.json")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may grow to 64 bytes and no further: writes fail as they do on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(ArtifactError, match=r"transform\.json cannot be written.*intact"):
            analyze({"id": SEEN}, train(id=["b" * 100])).save(tmp_path / "transform.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Transform.load(tmp_path / "transform.json") == good
    assert [path.name for path in tmp_path.iterdir()] == ["transform.json"]


def test_analysis_and_numpy_encoding_load_no_tensorflow():
    check = "import sys, onehull.features; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
