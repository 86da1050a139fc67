"""From one day's transform to the next: what was learned stays in its place, what has become frequent comes in."""

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
from onehull.features import ArrayTransform, IdCounts, analyze, count_ids, grow, new_rows
from onehull.features.counts import FLOOR, add_counts, bounded
from onehull.features.transform import Transform, VocabularyTransform
from onehull.spec.features import CategoricalFeature, Feature, ListFeature, NumericFeature, VectorFeature

TWICE: dict[str, Feature] = {"id": CategoricalFeature(kind="categorical", min_count=2)}


def train(**columns: Any) -> pl.LazyFrame:
    rows = len(next(iter(columns.values())))
    frame = {"split": ["train"] * rows, **{f"x.{name}": values for name, values in columns.items()}}
    return pl.LazyFrame(frame, strict=False)


def day(ids: str) -> pl.LazyFrame:
    return train(id=list(ids))


def first_day(features: dict[str, Feature], samples: pl.LazyFrame) -> tuple[Transform, IdCounts]:
    counts = count_ids(features, samples)
    return analyze(features, samples, counts), counts


def ids(transform: Transform, name: str = "id") -> str:
    feature = transform.features[name]
    assert isinstance(feature, VocabularyTransform)
    return "".join(feature.values)


def test_known_ids_keep_their_places_and_new_ones_follow_by_frequency_then_text():
    transform, counts = first_day(TWICE, day("aaabb"))
    grown = grow(TWICE, transform, counts, day("bbbbzzzddccx"))
    assert ids(grown.transform) == "abzcd"
    before, after = (ArrayTransform(t).encode({"id": list("abzx")}, 4)["id"] for t in (transform, grown.transform))
    assert before.tolist() == [2, 3, 1, 1]
    assert after.tolist() == [2, 3, 4, 1]
    assert new_rows(transform, grown.transform)["id"].tolist() == [4, 5, 6]


def test_an_id_that_comes_once_a_day_enters_when_its_decayed_count_reaches_the_threshold():
    transform, counts = first_day(TWICE, day("aab"))
    entered = []
    for _ in range(3):
        grown = grow(TWICE, transform, counts, day("aab"), decay=0.6)
        transform, counts = grown.transform, grown.counts
        entered.append("b" in ids(transform))
    # 1 + 0.6 = 1.6, 1.96, 2.176
    assert entered == [False, False, True]


def test_without_decay_growing_day_by_day_counts_what_all_days_together_hold():
    random = np.random.default_rng(0)
    days = [list(random.zipf(1.5, 500).clip(max=200).astype(str)) for _ in range(3)]
    feature: dict[str, Feature] = {"id": CategoricalFeature(kind="categorical", min_count=3)}
    transform, counts = first_day(feature, train(id=days[0]))
    for values in days[1:]:
        grown = grow(feature, transform, counts, train(id=values), decay=1.0)
        transform, counts = grown.transform, grown.counts
    whole = train(id=[value for values in days for value in values])
    assert counts.tables["id"].equals(count_ids(feature, whole).tables["id"])
    all_at_once = analyze(feature, whole).features["id"]
    assert isinstance(all_at_once, VocabularyTransform)
    assert set(transform.features["id"].values) == set(all_at_once.values)  # type: ignore[union-attr]


def test_a_full_vocabulary_gives_the_places_of_ids_that_died_out():
    feature: dict[str, Feature] = {"id": CategoricalFeature(kind="categorical", min_count=2, max_size=3)}
    transform, counts = first_day(feature, day("aaaabbbcc"))
    assert ids(transform) == "abc"
    # Nothing has died out yet: b and c are worth 2.7 and 1.8 + 1 a day later.
    waiting = grow(feature, transform, counts, day("acdddeee"), decay=0.9)
    assert ids(waiting.transform) == "abc"
    # b is now worth 0.3 and c 2.5: d, which is first among those that wait, takes the place of b; e goes on waiting.
    later = grow(feature, waiting.transform, waiting.counts, day("aaccdddee"), decay=0.1)
    assert ids(later.transform) == "adc"
    assert new_rows(waiting.transform, later.transform)["id"].tolist() == [3]


def test_without_a_largest_size_no_id_leaves():
    transform, counts = first_day(TWICE, day("aabb"))
    for _ in range(40):
        grown = grow(TWICE, transform, counts, day("cc"), decay=0.5)
        transform, counts = grown.transform, grown.counts
    assert ids(transform) == "abc"
    assert set(counts.tables["id"]["value"]) == {"c"}


def test_a_largest_size_that_was_lowered_takes_no_row_away():
    transform, counts = first_day(TWICE, day("aabbcc"))
    smaller: dict[str, Feature] = {"id": CategoricalFeature(kind="categorical", min_count=2, max_size=1)}
    assert ids(grow(smaller, transform, counts, day("aabbccdd")).transform) == "abc"


def test_numbers_buckets_vectors_and_hashes_stay_as_they_are():
    features: dict[str, Feature] = {
        "number": NumericFeature(kind="numeric"),
        "bucket": NumericFeature(kind="numeric", transform="buckets", buckets=3),
        "vector": VectorFeature(kind="vector", size=1),
        "hash": CategoricalFeature(kind="categorical", encoding="hash", buckets=5),
        "tags": ListFeature(kind="list", min_count=1, max_length=2),
    }
    transform, counts = first_day(
        features, train(number=[1, 2, 3], bucket=[1, 2, 3], vector=[[1.0]] * 3, hash=["a"] * 3, tags=[["s"], [], ["s"]])
    )
    grown = grow(
        features,
        transform,
        counts,
        train(number=[None], bucket=[9], vector=[[0.0]], hash=["b"], tags=[["t", "u", "v"]]),
    ).transform
    changed = [name for name in features if grown.features[name] != transform.features[name]]
    assert changed == ["tags"]
    assert ids(grown, "tags") == "stu"


def test_only_training_rows_are_counted():
    transform, counts = first_day(TWICE, day("aa"))
    frame = pl.LazyFrame({"split": ["train", "validation", "test", "test"], "x.id": ["a", "b", "b", "b"]})
    assert ids(grow(TWICE, transform, counts, frame).transform) == "a"


def test_counts_are_bounded_and_forget_little():
    counts = IdCounts({"id": pl.DataFrame({"value": list("abcdef"), "count": [9.0, 5.0, 4.0, 3.0, 0.2, FLOOR / 2]})})
    kept = bounded(counts, {"id": ("c", "e")}, most=2).tables["id"]
    assert kept["value"].to_list() == ["a", "b", "c", "e"]


@given(st.lists(st.booleans(), min_size=1, max_size=120), st.sampled_from([0.3, 0.7, 0.9]))
def test_what_is_forgotten_of_an_id_is_less_than_a_ninth_of_one_sight(seen: list[bool], decay: float):
    exact, kept = 0.0, IdCounts({"id": once(today=False)})
    for today in seen:
        exact = decay * exact + today
        kept = bounded(add_counts(kept, IdCounts({"id": once(today=today)}), decay), {})
        found = sum(kept.tables["id"]["count"].to_list())
        assert -1e-9 < exact - found < FLOOR / (1 - FLOOR)


def once(*, today: bool) -> pl.DataFrame:
    columns = {"value": ["a"] * today, "count": [1.0] * today}
    return pl.DataFrame(columns, {"value": pl.String, "count": pl.Float64})


def test_counts_survive_their_file(tmp_path: Path):
    features: dict[str, Feature] = {**TWICE, "empty": CategoricalFeature(kind="categorical")}
    counts = count_ids(features, train(id=["ü\n", "a", "a"], empty=[None] * 3))
    counts.save(tmp_path / "counts.parquet")
    found = IdCounts.load(tmp_path / "counts.parquet")
    assert found.tables["id"].equals(counts.tables["id"])
    assert "empty" not in found.tables
    transform = analyze(features, train(id=["a", "a"], empty=[None] * 2))
    assert ids(grow(features, transform, found, train(id=["b"] * 2, empty=["e"] * 2)).transform, "empty") == "e"
    assert [path.name for path in tmp_path.iterdir()] == ["counts.parquet"]


def test_files_that_are_no_counts_are_refused(tmp_path: Path):
    path = tmp_path / "counts.parquet"
    with pytest.raises(ArtifactError, match=r"counts\.parquet holds no counts of ids.*Prepare the data again"):
        IdCounts.load(path)
    pl.DataFrame({"other": [1]}).write_parquet(path)
    with pytest.raises(ArtifactError, match="holds no counts of ids"):
        IdCounts.load(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="holds no counts of ids"):
        IdCounts.load(path)


def test_a_full_disk_leaves_the_last_good_counts(tmp_path: Path):
    path = tmp_path / "counts.parquet"
    good = count_ids(TWICE, day("aa"))
    good.save(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may grow to 64 bytes and no further: writes fail as they do on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(ArtifactError, match=r"counts\.parquet cannot be written.*intact"):
            count_ids(TWICE, day("bb")).save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert IdCounts.load(path).tables["id"].equals(good.tables["id"])
    assert [file.name for file in tmp_path.iterdir()] == ["counts.parquet"]


def test_a_day_of_another_form_is_refused():
    transform, counts = first_day(TWICE, day("aa"))
    with pytest.raises(DataError, match=r"column 'x\.id' is absent"):
        grow(TWICE, transform, counts, train(other=["a"]))
    with pytest.raises(DataError, match="at least one row 'train'"):
        grow(TWICE, transform, counts, pl.LazyFrame({"split": ["test"], "x.id": ["a"]}))
    with pytest.raises(ValueError, match=r"features must be those of the transform, \['id'\]"):
        grow({"other": TWICE["id"]}, transform, counts, day("a"))
    with pytest.raises(ValueError, match="'id' must be transformed by VocabularyTransform, as before"):
        grow({"id": NumericFeature(kind="numeric")}, transform, counts, day("a"))
    with pytest.raises(ValueError, match=r"decay must be in 0 … 1\. Received 1.5"):
        grow(TWICE, transform, counts, day("a"), decay=1.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [("ba", "must keep the places of its ids. Received 'b'"), ("a", "must keep its 2 rows. Received 1")],
)
def test_a_transform_that_was_not_grown_from_the_old_one_is_refused(values: str, message: str):
    old, new = (Transform(features={"id": VocabularyTransform(values=tuple(v))}) for v in ("ab", values))
    with pytest.raises(ValueError, match=message):
        new_rows(old, new)
    wider = Transform(features={"id": VocabularyTransform(values=("a", "b"), dim=3)})
    with pytest.raises(ValueError, match="must keep its width"):
        new_rows(old, wider)


def test_growing_loads_no_tensorflow():
    check = "import sys, onehull.features.grow; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
