"""Reading: both layouts hold the same bits, a pass begins at any batch, workers share a batch, damage has a name."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from onehull.errors import ArtifactError
from onehull.features import analyze
from onehull.records import disk, read_manifest, read_records, reading_errors, verify, write_records
from onehull.records.manifest import file_sha256
from onehull.records.read import load_arrays
from onehull.records.row_plan import plan_row
from onehull.records.words import RowWords
from onehull.spec.features import CategoricalFeature, Feature, ListFeature, NumericFeature, VectorFeature
from onehull.spec.inputs import ModelInput
from onehull.spec.records import Records

FEATURES: dict[str, Feature] = {
    "user": CategoricalFeature(kind="categorical", min_count=1),
    "age": NumericFeature(kind="numeric"),
    "tags": ListFeature(kind="list", min_count=1, max_length=3),
    "vector": VectorFeature(kind="vector", size=2),
}
TASKS = ["row", "watch"]
ROWS = 500
LAYOUTS = [
    Records(layout=layout, compression=compression, rows_per_block=16, rows_per_shard=70)
    for layout in ("blocks", "rows")
    for compression in ("none", "gzip", "zlib")
]


def written(directory: Path, how: Records, rows: int = ROWS) -> Path:
    """Training rows, numbered by the label ``row``."""
    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "sample": [f"i{row}" for row in range(rows)],
            "split": ["train"] * rows,
            "x.user": [f"u{u}" if u else None for u in random.integers(0, 40, rows)],
            "x.age": [None if a < 20 else float(a) for a in random.normal(40, 20, rows)],
            "x.tags": [[f"t{t}" for t in random.integers(0, 9, n)] for n in random.integers(0, 5, rows)],
            "x.vector": random.normal(size=(rows, 2)).astype(np.float32).tolist(),
            "y.row": np.arange(rows, dtype=float),
            "y.watch": [None if w < 0.3 else w * 100 for w in random.random(rows)],
        },
        schema_overrides={"x.vector": pl.List(pl.Float32)},
    )
    frame.write_parquet(directory / "samples.parquet")
    write_records(
        directory / "samples.parquet", analyze(FEATURES, frame.lazy()), TASKS, directory / "shards", settings=how
    )
    return directory / "shards"


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    return written(tmp_path_factory.mktemp("blocks"), LAYOUTS[0])


def batches(records: Path, **options) -> list[np.ndarray]:
    """Numbers of the rows of each batch."""
    options = {"batch_size": 64, "shuffle": True, "memory_limit_bytes": 0, **options}
    return [labels["row"] for _, labels in read_records(records, "train", **options).as_numpy_iterator()]


def as_bits(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint32) if values.dtype == np.float32 else values


@pytest.mark.parametrize("how", LAYOUTS[1:], ids=lambda how: f"{how.layout}-{how.compression}")
def test_all_layouts_hold_the_same_bits(blocks, tmp_path, how):
    other = written(tmp_path, how)
    for expected, found in zip(load_arrays(blocks, "train"), load_arrays(other, "train"), strict=True):
        assert list(expected) == list(found)
        for name, values in expected.items():
            assert found[name].dtype == values.dtype
            np.testing.assert_array_equal(as_bits(found[name]), as_bits(values))
    shuffled = np.concatenate(batches(other))
    np.testing.assert_array_equal(np.sort(shuffled), np.arange(ROWS))
    assert not np.array_equal(shuffled, np.arange(ROWS))
    np.testing.assert_array_equal(np.concatenate(batches(other, shuffle=False)), np.arange(ROWS))


def test_blocks_and_single_rows_are_shuffled_alike(blocks, tmp_path):
    rows = written(tmp_path, LAYOUTS[3])
    np.testing.assert_array_equal(np.concatenate(batches(blocks)), np.concatenate(batches(rows)))


@pytest.mark.parametrize("limit", [0, 1 << 30], ids=["disk", "memory"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_pass_that_begins_later_gives_the_rest_of_the_same_pass(blocks, monkeypatch, limit, shuffle):
    monkeypatch.setattr(disk, "_WINDOW_ROWS", 150)  # some windows, whose ends are not those of blocks or batches
    for batch_size in (64, 7):
        options = {"batch_size": batch_size, "shuffle": shuffle, "memory_limit_bytes": limit, "epoch": 3}
        whole = batches(blocks, **options)
        np.testing.assert_array_equal(np.sort(np.concatenate(whole)), np.arange(ROWS))
        for start in (1, 2, len(whole) // 2, len(whole) - 1, len(whole)):
            rest = batches(blocks, start_batch=start, **options)
            assert len(rest) == len(whole) - start
            for found, expected in zip(rest, whole[start:], strict=True):
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("limit", [0, 1 << 30], ids=["disk", "memory"])
def test_workers_share_each_batch_row_by_row(blocks, limit):
    options = {"memory_limit_bytes": limit, "batch_size": 83, "start_batch": 2}  # the last batch has two rows
    whole = batches(blocks, **options)
    assert len(whole[-1]) == 2
    for count in (2, 3):
        parts = [batches(blocks, worker=(worker, count), **options) for worker in range(count)]
        for number, expected in enumerate(whole):
            for worker, part in enumerate(parts):
                np.testing.assert_array_equal(part[number], expected[worker::count])
    assert len(parts[2][-1]) == 0


def test_an_epoch_mixes_blocks_of_all_files(blocks):
    """Of 64 rows of a window that holds all rows, no quarter of the data has too many: 16 are expected."""
    first = batches(blocks)[0]
    assert np.histogram(first, bins=4, range=(0, ROWS))[0].max() < 32


def test_blocks_come_in_an_order_of_their_own_where_a_window_is_small(blocks, monkeypatch):
    monkeypatch.setattr(disk, "_WINDOW_ROWS", 32)
    found = np.concatenate(batches(blocks))
    np.testing.assert_array_equal(np.sort(found), np.arange(ROWS))
    # Two or three blocks of 16 rows make a window; over all rows nothing is where it was.
    assert all(len(np.unique(found[start : start + 32] // 16)) <= 8 for start in range(0, ROWS - 32, 32))
    assert abs(np.corrcoef(found, np.arange(ROWS))[0, 1]) < 0.5


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"start_batch": 9}, "start_batch must be from 0 to 8"),
        ({"start_batch": -1}, "start_batch must be"),
        ({"worker": (2, 2)}, r"worker must be.*\(2, 2\)"),
    ],
)
def test_a_place_that_is_not_there_is_refused(blocks, options, rule):
    with pytest.raises(ValueError, match=rule):
        batches(blocks, **options)


@pytest.mark.parametrize("how", [LAYOUTS[0], LAYOUTS[1], LAYOUTS[3]], ids=lambda how: f"{how.layout}-{how.compression}")
@pytest.mark.parametrize("damage", ["lost", "cut", "cut_between_records", "altered"])
def test_a_shard_that_goes_bad_in_the_middle_of_a_pass_is_named(tmp_path, how, damage):
    records = written(tmp_path, how)
    shard = records / read_manifest(records).splits["train"][3].file
    dataset = read_records(records, "train", batch_size=16, shuffle=True, memory_limit_bytes=0)
    content = shard.read_bytes()
    if damage == "lost":
        shard.unlink()
    else:
        place = read_manifest(records).splits["train"][3].offsets[2]
        size = {"cut": place + 9, "cut_between_records": place, "altered": len(content)}[damage]
        altered = bytearray(content[:size])
        altered[place - 7] ^= 1
        shard.write_bytes(altered)
    said = {"lost": "is missing", "altered": "altered"}.get(damage, "cut short")
    with pytest.raises(ArtifactError, match=rf"{shard.name}.*{said}.*checkpoint"), reading_errors(records):
        for _ in dataset:
            pass


def test_an_error_of_another_cause_passes_through(blocks):
    with pytest.raises(tf.errors.InvalidArgumentError, match="mine"), reading_errors(blocks):
        tf.debugging.assert_equal(1, 2, "mine")


def test_a_file_is_read_through_once_and_again_when_it_changes(tmp_path, monkeypatch):
    records = written(tmp_path, LAYOUTS[0])
    shards = read_manifest(records).splits["train"]
    read: list[str] = []

    def noted(path: Path) -> str:
        read.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(verify, "file_sha256", noted)
    verify.check_parts(records, read_manifest(records), ["train"])
    assert read == []  # they were read through when they were written
    (records / shards[2].file).touch()
    verify.check_parts(records, read_manifest(records), ["train"])
    verify.check_parts(records, read_manifest(records), ["train"])
    assert read == [shards[2].file]
    (records / verify.CHECKED).write_text("[")
    verify.check_parts(records, read_manifest(records), ["train"])
    assert len(read) == 1 + len(shards)
    verify.verify_records(records)
    assert len(read) == 1 + 2 * len(shards)


INPUTS = [
    ModelInput(name="user", kind="id", rows=2**31 - 1),
    ModelInput(name="flag", kind="id", rows=1),
    ModelInput(name="vector", kind="dense", length=3),
    ModelInput(name="tags", kind="ids", rows=5000, length=4),
    ModelInput(name="day", kind="id", rows=8),
]


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.booleans())
@settings(max_examples=30, deadline=None)
def test_words_give_back_what_was_packed(seed, rows, packed):
    random = np.random.default_rng(seed)
    words = RowWords(plan_row(INPUTS, ["click"], packed=packed), INPUTS, ["click"])
    values = {i.name: random.integers(0, i.rows, (rows, *i.shape)) for i in INPUTS if i.kind != "dense"}
    bits = random.integers(0, 2**32, (rows, 4), dtype=np.uint32)  # any bits, also those of NaNs
    values |= {"vector": bits[:, :3].copy().view(np.float32), "y.click": bits[:, 3].copy().view(np.float32)}
    inputs, labels = words.unpack_batch(tf.constant(words.pack(values)))
    for name, found in {**inputs, "y.click": labels["click"]}.items():
        np.testing.assert_array_equal(as_bits(found.numpy()), as_bits(values[name]), err_msg=name)


def test_short_ids_share_words():
    plan = plan_row(INPUTS, ["click"])
    # Four numbers; 31 bits and 1 bit; two tags of 13 bits and 3 bits of the day, or two tags, twice.
    assert plan.words == 4 + 1 + 2
    places = sorted((p.word, p.shift, p.bits) for found in plan.ids.values() for p in found)
    for (word, shift, bits), (next_word, next_shift, _) in itertools.pairwise(places):
        assert shift + bits <= 32
        assert next_word > word or next_shift >= shift + bits


@pytest.mark.parametrize("bad", [-1, 8])
def test_an_id_that_is_no_row_of_its_table_is_not_written(bad):
    inputs = [ModelInput(name="day", kind="id", rows=8)]
    with pytest.raises(ValueError, match=r"'day' must be ids from 0 to 7.*Received"):
        RowWords(plan_row(inputs, []), inputs, []).pack({"day": np.array([0, bad])})


def test_blocks_are_read_as_the_documentation_shows(blocks):
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "input.md").read_text(encoding="utf-8")
    shown: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], shown)  # noqa: S102  the page is ours
    found = np.concatenate(list(shown["column"](blocks, "user").as_numpy_iterator()))
    np.testing.assert_array_equal(found, load_arrays(blocks, "train")[0]["user"])
