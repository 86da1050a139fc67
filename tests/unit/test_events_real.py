"""Two public data sets, assembled and compared with what Polars computes on its own."""

import os
from pathlib import Path

import polars as pl
import pytest

from onehull.events import assemble, load_entities
from onehull.spec import load_spec

DATA = Path(os.environ.get("ONEHULL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def directory(name: str) -> Path:
    path = DATA / name
    if not path.is_dir():
        pytest.skip(f"{path} is absent: set ONEHULL_DATA to the directory of the public data sets")
    return path


def test_kuairand_by_date_with_missing_watch_time(tmp_path: Path):
    data = directory("kuairand_pure")
    spec = load_spec(
        {
            "name": "kuairand",
            "data": {
                "samples": "log_standard_0425_0505.parquet",
                "user": "user_id",
                "item": "video_id",
                "time": "time_ms",
                "time_unit": "ms",
                "tables": {
                    "user": {"path": "user_features.parquet", "key": "user_id"},
                    "item": {"path": "video_features_basic.parquet", "key": "video_id"},
                },
                "split": {"by": "column", "column": "date", "validation": [20220504], "test": [20220505]},
            },
            "features": {
                "user_id": {"kind": "categorical"},
                "register_days": {"kind": "numeric"},
                "tag": {"kind": "list", "separator": ","},
                "video_duration": {"kind": "numeric"},
                "tab": {"kind": "categorical"},
            },
            "tasks": {
                "click": {"kind": "binary", "label": "is_click"},
                "long_view": {"kind": "binary", "label": "long_view"},
                "like": {"kind": "binary", "label": "is_like"},
                "watch": {"kind": "regression", "label": "play_time_ms", "missing": 0, "scale": 0.001},
            },
        }
    )
    report = assemble(spec, data, tmp_path)
    samples = pl.read_parquet(tmp_path / "samples.parquet")
    log = pl.read_parquet(data / "log_standard_0425_0505.parquet")
    assert report.rows == len(samples) == len(log) == 185_061
    dates = log["date"].value_counts()
    counts = dict(zip(dates["date"], dates["count"], strict=True))
    assert report.splits["validation"] == counts[20220504]
    assert report.splits["test"] == counts[20220505]
    for task, column in (("click", "is_click"), ("long_view", "long_view"), ("like", "is_like")):
        assert report.tasks[task].positive == log[column].sum()
        assert samples[f"y.{task}"].cast(pl.Int8).equals(log[column], check_names=False, null_equal=True)
    played = log["play_time_ms"].to_frame().select(pl.when(pl.col("play_time_ms") != 0).then(pl.col("play_time_ms")))
    assert report.tasks["watch"].missing == (log["play_time_ms"] == 0).sum()
    assert (
        (samples["y.watch"] * 1000)
        .round()
        .cast(pl.Int32)
        .equals(played.to_series(), check_names=False, null_equal=True)
    )
    assert samples["time"].dt.epoch("ms").equals(log["time_ms"], check_names=False)
    videos = pl.read_parquet(data / "video_features_basic.parquet").with_columns(pl.col("video_id").cast(pl.Int32))
    joined = log.join(videos, on="video_id", how="left", maintain_order="left")
    assert samples["x.video_duration"].equals(joined["video_duration"], check_names=False, null_equal=True)
    assert samples["x.tag"].null_count() == joined["tag"].null_count()
    users = load_entities(spec, data, "user")
    assert users is not None
    assert (len(users), users.columns) == (27_285, ["id", "x.register_days", "x.user_id"])


def test_census_income_with_the_test_file_cut_in_two(tmp_path: Path):
    data = directory("census_income_kdd")
    spec = load_spec(
        {
            "name": "census",
            "data": {
                "samples": "train.parquet",
                "holdout": "test.parquet",
                "split": {"by": "random", "validation": 0.5, "test": 0.5, "seed": 0},
            },
            "features": {
                "age": {"kind": "numeric"},
                "sex": {"kind": "categorical"},
                "num_emp": {"kind": "categorical"},
            },
            "tasks": {
                "income": {"kind": "binary", "label": "label_income_50k"},
                "never_married": {"kind": "binary", "label": "label_never_married"},
            },
        }
    )
    report = assemble(spec, data, tmp_path)
    samples = pl.read_parquet(tmp_path / "samples.parquet")
    both = pl.concat([pl.read_parquet(data / "train.parquet"), pl.read_parquet(data / "test.parquet")])
    assert report.splits == {"train": 199_523, "validation": 49_881, "test": 49_881}
    assert set(samples["split"].head(199_523)) == {"train"}
    assert report.tasks["income"].positive == both["label_income_50k"].sum()
    assert report.tasks["never_married"].positive == both["label_never_married"].sum()
    assert report.tasks["income"].missing == 0
    assert samples["x.num_emp"].equals(both["num_emp"].cast(pl.String), check_names=False)
    assert samples["x.age"].equals(both["age"].cast(pl.Float64), check_names=False)
    assert samples["x.sex"].equals(both["sex"], check_names=False, null_equal=True)
    again = assemble(spec, data, tmp_path / "again")
    assert pl.read_parquet(tmp_path / "again" / "samples.parquet").equals(samples)
    assert again == report
