"""Analysis on Beam gives the transform and the counts of the local engine."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("tensorflow_transform", reason='tensorflow-transform is not installed: pip install "onehull[beam]"')

from onehull.beam.analyze import measure_on_beam
from onehull.beam.analyzers import RANKS, EqualFrequencyCombiner, sketch_epsilon
from onehull.beam.runner import LOCAL_RUNNER, pipeline_options
from onehull.errors import DataError, RunnerError
from onehull.features import measure
from onehull.features.quantiles import equal_frequency_boundaries
from onehull.features.transform import MomentsTransform
from onehull.spec.features import CategoricalFeature, Feature, ListFeature, NumericFeature, VectorFeature

ROWS = 1200
FEATURES: dict[str, Feature] = {
    "user": CategoricalFeature(kind="categorical"),
    "rows": NumericFeature(kind="numeric"),
    "ties.cut": CategoricalFeature(kind="categorical", min_count=1, max_size=3),
    "hashed": CategoricalFeature(kind="categorical", encoding="hash", buckets=10),
    "tags": ListFeature(kind="list", max_length=2, min_count=1),
    "far": NumericFeature(kind="numeric"),
    "log": NumericFeature(kind="numeric", transform="log1p"),
    "constant": NumericFeature(kind="numeric"),
    "bucket": NumericFeature(kind="numeric", transform="buckets", buckets=8),
    "no_number": NumericFeature(kind="numeric"),
    "no_bucket": NumericFeature(kind="numeric", transform="buckets"),
    "no_id": CategoricalFeature(kind="categorical"),
    "vector": VectorFeature(kind="vector", size=2),
}


def samples() -> pl.DataFrame:
    """Odd values of every kind; other parts hold what must not be seen."""
    random = np.random.default_rng(0)
    users = [f"u{value}" for value in random.zipf(1.3, ROWS) % 200]
    holes = [None if row % 7 == 0 else float(value) for row, value in enumerate(random.normal(1e5, 3, ROWS))]
    frame = pl.DataFrame(
        {
            "x.user": [None if row % 10 == 0 else user for row, user in enumerate(users)],
            "x.rows": random.normal(size=ROWS),
            "x.ties.cut": [["b b", "ü\n", "", "a\x00", "z", "1 x"][row % 6] for row in range(ROWS)],
            "x.hashed": users,
            "x.tags": [[["a", "", "b", "c"], [], None, ["c", "a"]][row % 4] for row in range(ROWS)],
            "x.far": holes,
            "x.log": random.standard_cauchy(ROWS) * 10,
            "x.constant": [0.1] * ROWS,
            "x.bucket": np.where(random.random(ROWS) < 0.5, 0.0, random.normal(size=ROWS)),
            "x.no_number": [float("nan"), float("inf"), 1e300, -1e300] * (ROWS // 4),
            "x.no_bucket": pl.Series([None] * ROWS, dtype=pl.Float64),
            "x.no_id": pl.Series([None] * ROWS, dtype=pl.String),
            "x.vector": [[1.0, 2.0]] * ROWS,
        }
    )
    leak = frame.head(9).with_columns(
        pl.lit("test").alias("split"), pl.lit("leak").alias("x.user"), pl.lit(1e9).alias("x.rows")
    )
    return pl.concat([frame.with_columns(pl.lit("train").alias("split")), leak])


def test_the_transform_and_the_counts_are_those_of_the_local_engine(tmp_path: Path):
    path = tmp_path / "samples.parquet"
    samples().write_parquet(path, row_group_size=500)
    local, found = measure(FEATURES, pl.scan_parquet(path)), measure_on_beam(FEATURES, path, tmp_path / "workspace")
    assert list(found.transform.features) == list(FEATURES)
    for name, expected in local.transform.features.items():
        actual = found.transform.features[name]
        if isinstance(expected, MomentsTransform):
            assert isinstance(actual, MomentsTransform)
            assert (actual.mean, actual.std) == pytest.approx((expected.mean, expected.std), rel=1e-9)
            actual = actual.model_copy(update={"mean": expected.mean, "std": expected.std})
        assert actual == expected
    assert {name: table.rows() for name, table in found.counts.tables.items()} == {
        name: table.rows() for name, table in local.counts.tables.items()
    }


def test_features_that_need_no_analysis_start_no_pipeline(tmp_path: Path):
    path, features = tmp_path / "samples.parquet", {name: FEATURES[name] for name in ("hashed", "vector")}
    samples().write_parquet(path)
    assert measure_on_beam(features, path, tmp_path) == measure(features, pl.scan_parquet(path))
    assert [file.name for file in tmp_path.iterdir()] == ["samples.parquet"]


@pytest.mark.parametrize("values", ["normal", "piles"])
def test_boundaries_of_a_merged_sketch_keep_its_error(values: str):
    random = np.random.default_rng(1)
    column = random.normal(size=60_000).astype(np.float32)
    if values == "piles":
        column[:20_000], column[20_000:50_000] = 0.0, np.round(column[20_000:50_000], 2)
    combiner = EqualFrequencyCombiner(16)
    parts = [combiner.add_input(combiner.create_accumulator(), [part]) for part in np.array_split(column, 7)]
    (found,) = combiner.extract_output(combiner.merge_accumulators(parts))
    expected = equal_frequency_boundaries(column, 16)
    found = found[np.isfinite(found)]
    assert len(found) == len(expected)
    ranks = [np.searchsorted(np.sort(column), boundaries) / len(column) for boundaries in (found, expected)]
    assert np.abs(ranks[0] - ranks[1]).max() <= sketch_epsilon(16) + 1 / RANKS


def test_tables_of_another_form_are_refused_before_a_pipeline_starts(tmp_path: Path):
    path = tmp_path / "samples.parquet"
    pl.DataFrame({"split": ["train"], "x.user": [1]}).write_parquet(path)
    with pytest.raises(DataError, match=r"column 'x\.user' must hold text"):
        measure_on_beam({"user": FEATURES["user"]}, path, tmp_path)
    pl.DataFrame({"split": ["test"], "x.vector": [[1.0, 2.0]]}).write_parquet(path)
    with pytest.raises(DataError, match="at least one row 'train'"):
        measure_on_beam({"vector": FEATURES["vector"]}, path, tmp_path)


def test_options_name_a_runner_and_wrong_ones_are_refused():
    assert pipeline_options().get_all_options()["runner"] == LOCAL_RUNNER
    flags = '--runner=FlinkRunner --flink_master=localhost:8081 --job_name "two words"'
    options = pipeline_options(flags).get_all_options()
    assert (options["runner"], options["flink_master"], options["job_name"]) == (
        "FlinkRunner",
        "localhost:8081",
        "two words",
    )
    for wrong in ("--flink_mister=localhost", "--runner", "'--runner"):
        with pytest.raises(RunnerError, match="Beam options must be flags"):
            pipeline_options(wrong)


def test_what_a_worker_raises_is_the_error(tmp_path: Path):
    path = tmp_path / "samples.parquet"
    pl.DataFrame({"split": ["train"], "x.user": ["a"]}).write_parquet(path)
    content = bytearray(path.read_bytes())
    content[4:20] = b"\xff" * 16
    path.write_bytes(content)
    with pytest.raises(RunnerError, match=r"the Beam pipeline failed: .+\. What its workers said"):
        measure_on_beam({"user": FEATURES["user"]}, path, tmp_path / "workspace")


def test_a_sketch_of_no_values_has_no_boundaries():
    combiner = EqualFrequencyCombiner(4)
    (found,) = combiner.extract_output(combiner.create_accumulator())
    assert found.tolist() == [np.inf] * 3


def test_the_doors_load_no_beam_and_say_what_is_missing():
    code = """
import sys, onehull.beam, onehull.pipeline.on_beam
loaded = {"apache_beam", "tensorflow", "tensorflow_transform"} & set(sys.modules)
assert not loaded, loaded
sys.modules["tensorflow_transform"] = None
onehull.beam.preprocessing_fn_of(None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    missing = 'MissingPartError: The beam engine needs tensorflow-transform: pip install "onehull[beam]"'
    assert missing in done.stderr
