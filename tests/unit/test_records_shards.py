"""Shards: what is written is read back in order, shuffled epochs are permutations, damage is refused by name."""

import json
import resource
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from onehull.errors import ArtifactError
from onehull.features import ArrayTransform, analyze
from onehull.records import read_manifest, read_records, verify_records, write_records
from onehull.records.read import load_arrays
from onehull.spec.features import CategoricalFeature, Feature, ListFeature, NumericFeature, VectorFeature
from onehull.spec.records import Records

FEATURES: dict[str, Feature] = {
    "user": CategoricalFeature(kind="categorical", min_count=1),
    "age": NumericFeature(kind="numeric"),
    "tags": ListFeature(kind="list", min_count=1, max_length=3),
    "vector": VectorFeature(kind="vector", size=2),
}
TASKS = ["click", "watch"]


def samples(path: Path, rows: int = 500, seed: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "sample": [f"i{row}" for row in range(rows)],
            "split": np.repeat(["train", "validation", "test"], [rows * 3 // 5, rows // 5, rows // 5]),
            "time": [datetime(2026, 1, 5, tzinfo=UTC)] * rows,
            "user": [f"u{u}" for u in random.integers(0, 40, rows)],
            "item": [f"v{i}" for i in random.integers(0, 40, rows)],
            "x.user": [f"u{u}" if u else None for u in random.integers(0, 40, rows)],
            "x.age": [None if a < 20 else float(a) for a in random.integers(15, 80, rows)],
            "x.tags": [[f"t{t}" for t in random.integers(0, 9, n)] for n in random.integers(0, 5, rows)],
            "x.vector": random.normal(size=(rows, 2)).astype(np.float32).tolist(),
            "y.click": random.integers(0, 2, rows).astype(float),
            "y.watch": [None if w < 0.3 else w * 100 for w in random.random(rows)],
        },
        schema_overrides={"x.vector": pl.List(pl.Float32)},
    )  # fmt: skip
    frame.write_parquet(path)
    return frame


def shards(directory: Path, rows: int = 500, rows_per_shard: int = 70, **settings) -> tuple[Path, pl.DataFrame]:
    frame = samples(directory / "samples.parquet", rows)
    transform = analyze(FEATURES, frame.lazy())
    write_records(
        directory / "samples.parquet",
        transform,
        TASKS,
        directory / "shards",
        settings=Records(rows_per_shard=rows_per_shard, **settings),
    )
    return directory / "shards", frame


def labels_of(dataset: tf.data.Dataset, task: str = "watch") -> np.ndarray:
    return np.concatenate([labels[task] for _, labels in dataset.as_numpy_iterator()])


def test_rows_come_back_in_the_order_of_the_samples_table(tmp_path: Path):
    records, frame = shards(tmp_path)
    for split in ("train", "validation", "test"):
        expected = frame.filter(pl.col("split") == split)["y.watch"].cast(pl.Float32).to_numpy()
        for limit in (1 << 30, 0):
            dataset = read_records(records, split, batch_size=64, memory_limit_bytes=limit)
            np.testing.assert_array_equal(labels_of(dataset), expected)


def test_inputs_have_the_shapes_and_types_that_the_manifest_says(tmp_path: Path):
    records, _ = shards(tmp_path)
    inputs, labels = next(read_records(records, "test", batch_size=10).as_numpy_iterator())
    manifest = read_manifest(records)
    assert set(inputs) == set(FEATURES) == {item.name for item in manifest.inputs}
    for item in manifest.inputs:
        assert inputs[item.name].shape == (10, *item.shape)
        assert inputs[item.name].dtype == item.dtype
    assert {task: values.dtype for task, values in labels.items()} == dict.fromkeys(TASKS, np.float32)


@pytest.mark.parametrize("limit", [1 << 30, 0], ids=["memory", "disk"])
def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch(tmp_path: Path, limit):
    records, frame = shards(tmp_path)
    expected = np.sort(frame.filter(pl.col("split") == "train")["y.watch"].drop_nulls().cast(pl.Float32).to_numpy())

    def epoch(seed: int, number: int) -> np.ndarray:
        dataset = read_records(
            records, "train", batch_size=64, shuffle=True, seed=seed, epoch=number, memory_limit_bytes=limit
        )
        return labels_of(dataset)

    first = epoch(0, 0)
    np.testing.assert_array_equal(np.sort(first[~np.isnan(first)]), expected)
    np.testing.assert_array_equal(first, epoch(0, 0))
    assert not np.array_equal(first, epoch(0, 1), equal_nan=True)
    assert not np.array_equal(first, epoch(1, 0), equal_nan=True)


def test_the_manifest_counts_rows_and_labels(tmp_path: Path):
    records, frame = shards(tmp_path)
    manifest = read_manifest(records)
    train = frame.filter(pl.col("split") == "train")
    assert manifest.rows("train") == len(train) == 300
    assert [shard.rows for shard in manifest.splits["train"]] == [70, 70, 70, 70, 20]
    watch = manifest.labels["watch"]
    assert (watch.rows, watch.labels) == (300, 300 - train["y.watch"].null_count())
    assert watch.mean == pytest.approx(train["y.watch"].mean())
    assert manifest.labels["click"].positives == train["y.click"].sum()


def test_a_truncated_shard_is_refused_with_its_name(tmp_path: Path):
    records, _ = shards(tmp_path)
    shard = records / "train-00001-of-00005.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(ArtifactError, match=r"train-00001-of-00005.*cut short"):
        read_records(records, "train", batch_size=64)


def test_an_altered_shard_is_refused_with_its_name(tmp_path: Path):
    records, _ = shards(tmp_path)
    shard = records / "test-00000-of-00002.tfrecord"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"test-00000-of-00002.*altered"):
        verify_records(records)


def test_a_missing_shard_is_refused_with_its_name(tmp_path: Path):
    records, _ = shards(tmp_path)
    (records / "validation-00000-of-00002.tfrecord").unlink()
    with pytest.raises(ArtifactError, match=r"validation-00000-of-00002.*missing"):
        verify_records(records)


def test_a_manifest_of_another_format_is_refused(tmp_path: Path):
    records, _ = shards(tmp_path)
    document = json.loads((records / "manifest.json").read_text())
    (records / "manifest.json").write_text(json.dumps({**document, "format": 3}))
    with pytest.raises(ArtifactError, match="format 3"):
        read_manifest(records)
    (records / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="not a manifest"):
        read_manifest(records)
    with pytest.raises(ArtifactError, match="onehull prepare"):
        read_manifest(tmp_path / "nowhere")


def test_a_part_without_rows_gives_no_batches(tmp_path: Path):
    frame = samples(tmp_path / "samples.parquet").filter(pl.col("split") != "test")
    frame.write_parquet(tmp_path / "samples.parquet")
    transform = analyze(FEATURES, frame.lazy())
    write_records(tmp_path / "samples.parquet", transform, TASKS, tmp_path / "shards")
    assert list(read_records(tmp_path / "shards", "test", batch_size=8)) == []


def test_a_full_disk_leaves_the_last_good_shards(tmp_path: Path):
    records, frame = shards(tmp_path)
    transform = analyze(FEATURES, frame.lazy())
    before = {path.name: path.read_bytes() for path in records.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may grow to 4 KiB and no further: writes fail as they do on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(ArtifactError, match=r"shards cannot be written.*intact"):
            write_records(tmp_path / "samples.parquet", transform, TASKS, records)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in records.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples.parquet", "shards"]
    verify_records(records)


def test_an_interrupted_write_leaves_the_last_good_shards(tmp_path: Path):
    records, frame = shards(tmp_path)
    transform = analyze(FEATURES, frame.lazy())

    def interrupt(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(tmp_path / "samples.parquet", transform, TASKS, records, progress=interrupt)
    verify_records(records)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples.parquet", "shards"]
    # Killed between the two renames of a swap: the next write finds the old shards beside their place.
    records.rename(tmp_path / ".shards.old")
    with pytest.raises(KeyboardInterrupt):
        write_records(tmp_path / "samples.parquet", transform, TASKS, records, progress=interrupt)
    verify_records(records)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples.parquet", "shards"]


def test_a_samples_table_that_is_missing_is_refused_with_its_name(tmp_path: Path):
    records, frame = shards(tmp_path)
    with pytest.raises(ArtifactError, match=r"absent\.parquet is missing"):
        write_records(tmp_path / "absent.parquet", analyze(FEATURES, frame.lazy()), TASKS, records)
    verify_records(records)


def test_a_shard_that_changes_after_it_was_checked_is_checked_again(tmp_path: Path):
    records, _ = shards(tmp_path)
    read_records(records, "train", batch_size=64)
    shard = records / "train-00000-of-00005.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="train-00000-of-00005"):
        read_records(records, "train", batch_size=64)


def test_rows_of_parts_may_be_mixed_in_the_table(tmp_path: Path):
    frame = samples(tmp_path / "samples.parquet", 20_000).sample(fraction=1, shuffle=True, seed=1)
    frame.write_parquet(tmp_path / "samples.parquet")
    told: list[int] = []
    manifest = write_records(
        tmp_path / "samples.parquet",
        analyze(FEATURES, frame.lazy()),
        TASKS,
        tmp_path / "shards",
        settings=Records(rows_per_shard=5000),
        progress=told.append,
    )
    assert sum(told) == len(frame)
    assert [shard.rows for shard in manifest.splits["train"]] == [5000, 5000, 2000]
    for split in ("train", "validation", "test"):
        expected = frame.filter(pl.col("split") == split)["y.watch"].cast(pl.Float32).to_numpy()
        np.testing.assert_array_equal(labels_of(read_records(tmp_path / "shards", split, batch_size=999)), expected)


def test_all_rows_of_a_part_are_the_batches_in_one_piece(tmp_path: Path):
    records, frame = shards(tmp_path)
    inputs, labels = load_arrays(records, "test")
    batch = next(read_records(records, "test", batch_size=1000).as_numpy_iterator())
    for loaded, expected in zip((inputs, labels), batch, strict=True):
        assert set(loaded) == set(expected)
        for name, values in loaded.items():
            assert values.dtype == expected[name].dtype
            np.testing.assert_array_equal(values, expected[name])
    encoded = ArrayTransform(analyze(FEATURES, frame.lazy())).encode_frame(frame.filter(pl.col("split") == "test"))
    for name, values in encoded.items():
        np.testing.assert_allclose(inputs[name], values, rtol=1e-6)


def test_an_epoch_knows_its_length_and_may_be_read_twice(tmp_path: Path):
    records, _ = shards(tmp_path)
    for limit in (1 << 30, 0):
        dataset = read_records(records, "train", batch_size=64, shuffle=True, memory_limit_bytes=limit)
        assert int(dataset.cardinality()) == 5
        np.testing.assert_array_equal(labels_of(dataset), labels_of(dataset))


def test_examples_are_in_protobufs_deterministic_form(tmp_path: Path):
    """Ids below 128 need one byte, so that nothing is longer than protobuf itself would write it."""
    records, _ = shards(tmp_path, layout="rows")
    for serialized in tf.data.TFRecordDataset(str(records / "test-00000-of-00002.tfrecord")).as_numpy_iterator():
        assert tf.train.Example.FromString(serialized).SerializeToString(deterministic=True) == serialized
