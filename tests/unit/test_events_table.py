"""Ready-made tables: labels, sentinels, splits, duplicates, attributes, and values that are refused."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from onehull.errors import DataError
from onehull.events import AssemblyReport, assemble, feature_sources, load_entities
from onehull.spec import load_spec

THIRDS = {"by": "column", "column": "day", "validation": [1], "test": ["2"]}
CLICK = {"click": {"kind": "binary", "label": "is_click"}}


def spec(
    data: dict[str, Any] | None = None,
    tasks: dict[str, Any] | None = None,
    features: dict[str, Any] | None = None,
    **more: Any,
):
    return load_spec(
        {
            "name": "test",
            "data": {"samples": "samples.parquet", "split": THIRDS, **(data or {})},
            "features": features or {"age": {"kind": "numeric"}},
            "tasks": tasks or CLICK,
            **more,
        }
    )


def table(**columns: Any) -> pl.DataFrame:
    rows = max((len(values) for values in columns.values()), default=6)
    days = [(0, 0, 1, 2)[row % 4] for row in range(rows)]
    defaults = {"day": days, "is_click": [0] * rows, "age": [1.0] * rows}
    return pl.DataFrame({**{k: v for k, v in defaults.items() if k not in columns}, **columns}, strict=False)


def run(directory: Path, frame: pl.DataFrame, **sections: Any) -> tuple[pl.DataFrame, AssemblyReport]:
    frame.write_parquet(directory / "samples.parquet")
    report = assemble(spec(**sections), directory, directory / "out")
    return pl.read_parquet(directory / "out" / "samples.parquet"), report


def test_the_columns_are_exactly_those_of_the_contract(tmp_path: Path):
    features = {
        "age": {"kind": "numeric"},
        "city": {"kind": "categorical"},
        "tags": {"kind": "list", "separator": "|"},
        "view": {"kind": "vector", "size": 2},
    }
    frame = table(
        city=[7, 8, None, 9], tags=["a|b", "", None, "c"], view=[[1, 2]] * 4, t=[0, 60, 120, 180], u=[1, 2, 3, 3]
    )
    samples, report = run(tmp_path, frame, features=features, data={"time": "t", "user": "u"})
    assert dict(samples.schema) == {
        "sample": pl.String,
        "split": pl.String,
        "time": pl.Datetime("us", "UTC"),
        "user": pl.String,
        "item": pl.String,
        "x.age": pl.Float64,
        "x.city": pl.String,
        "x.tags": pl.List(pl.String),
        "x.view": pl.List(pl.Float32),
        "y.click": pl.Float64,
    }
    assert samples["x.city"].to_list() == ["7", "8", None, "9"]
    assert samples["x.tags"].to_list() == [["a", "b"], None, None, ["c"]]
    assert (report.users, report.items, report.time_last) == (3, 0, datetime(1970, 1, 1, 0, 3, tzinfo=UTC))


def test_null_nan_and_the_sentinel_are_missing_labels_and_the_scale_comes_after(tmp_path: Path):
    tasks = {
        **CLICK,
        "watch": {"kind": "regression", "label": "ms", "missing": -1, "scale": 0.001},
        "like": {"kind": "binary", "label": "is_like", "missing": -1, "observed_when": "click"},
        "stars": {"kind": "multiclass", "label": "stars", "classes": 3, "observed_when": "like"},
    }
    frame = table(
        is_click=[1, 1, 1, 1, 0, None],
        ms=[1500.0, math.nan, -1.0, None, 0.0, 2.0],
        is_like=[1, 0, -1, None, 1, 1],
        stars=[2, 2, 2, 2, 2, 2],
    )
    samples, report = run(tmp_path, frame, tasks=tasks)
    assert samples["y.watch"].to_list() == [1.5, None, None, None, 0.0, 0.002]
    assert samples["y.like"].to_list() == [1, 0, None, None, None, None]
    assert samples["y.stars"].to_list() == [2, None, None, None, None, None]
    assert report.tasks["like"].model_dump() == {"known": 2, "missing": 4, "positive": 1, "mean": 0.5}
    assert report.tasks["stars"].positive is None


def test_missing_and_infinite_features_are_null(tmp_path: Path):
    samples, _ = run(tmp_path, table(age=[1.0, math.nan, math.inf, None]))
    assert samples["x.age"].to_list() == [1.0, None, None, None]


@pytest.mark.parametrize(
    ("task", "values", "message"),
    [
        (
            {"kind": "binary"},
            [0, 1, 2, 1],
            "must hold 0, 1 or nothing.*1 rows do not, the first is sample 2: received 2.0",
        ),
        ({"kind": "binary"}, [0, 1, -1, -1], r"2 rows do not.*received -1.0"),
        ({"kind": "regression"}, [0, math.inf, 1, 1], "must hold finite numbers.*received inf"),
        ({"kind": "multiclass", "classes": 3}, [0, 1, 2, 3], "must hold classes from 0 to 2.*received 3.0"),
        ({"kind": "multiclass", "classes": 3}, [0, 1, 2, 1.5], "received 1.5"),
    ],
)
def test_a_label_that_the_task_cannot_have_is_refused(tmp_path: Path, task, values, message):
    with pytest.raises(DataError, match=message) as caught:
        run(tmp_path, table(value=values), tasks={"t": {**task, "label": "value"}})
    assert "tasks.t: column 'value'" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_vector_of_another_size_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"features.view must hold vectors of 2 numbers. 1 rows do not"):
        run(tmp_path, table(view=[[1, 2], [1, 2], [1], None]), features={"view": {"kind": "vector", "size": 2}})


def test_one_class_only_is_a_note(tmp_path: Path):
    _, report = run(tmp_path, table())
    assert report.notes == ("task click has only labels that are 0",)


def test_duplicates_are_dropped_when_asked_and_counted(tmp_path: Path):
    frame = table(age=[1.0, 1.0, 2.0, 2.0, 1.0, None, 3.0, 4.0], day=[0, 0, 1, 2, 0, 0, 1, 2])
    kept, report = run(tmp_path, frame)
    assert (len(kept), report.duplicates_dropped) == (8, 0)
    dropped, report = run(tmp_path, frame, data={"drop_duplicates": True})
    assert dropped["sample"].to_list() == ["0", "2", "3", "5", "6", "7"]
    assert (report.rows, report.duplicates_dropped, report.rows_read, report.outside_split) == (6, 2, 8, 0)


def test_attributes_join_by_id_whatever_its_type(tmp_path: Path):
    pl.DataFrame({"uid": [1.0, 2.0, None], "age": [30, 40, 50]}).write_parquet(tmp_path / "users.parquet")
    (tmp_path / "items.csv").write_text("vid,colour,name,age\n7,red,Seven,0\n8,,Eight,0\n")
    frame = table(user=["1", "2", "3", None], item=[7, 8, 9, 7]).drop("age")
    data = {
        "user": "user",
        "item": "item",
        "tables": {"user": {"path": "users.parquet", "key": "uid"}, "item": {"path": "items.csv", "key": "vid"}},
    }
    features = {
        "age": {"kind": "numeric"},
        "colour": {"kind": "categorical"},
        "who": {"kind": "categorical", "column": "user"},
        "day": {"kind": "categorical"},
    }
    sections: dict[str, Any] = {"data": data, "features": features, "serving": {"display": {"title": "name"}}}
    samples, _ = run(tmp_path, frame, **sections)
    assert samples["x.age"].to_list() == [30, 40, None, None]
    assert samples["x.colour"].to_list() == ["red", None, None, "red"]
    assert samples["x.who"].to_list() == ["1", "2", "3", None]
    document = spec(**sections)
    assert feature_sources(document, tmp_path) == {"age": "user", "colour": "item", "who": "user", "day": "context"}
    users, items = load_entities(document, tmp_path, "user"), load_entities(document, tmp_path, "item")
    assert users is not None
    assert users.to_dicts() == [{"id": "1", "x.age": 30, "x.who": "1"}, {"id": "2", "x.age": 40, "x.who": "2"}]
    assert items is not None
    assert items.to_dicts() == [
        {"id": "7", "x.colour": "red", "show.title": "Seven"},
        {"id": "8", "x.colour": None, "show.title": "Eight"},
    ]


def test_the_sample_table_comes_before_the_attribute_tables(tmp_path: Path):
    pl.DataFrame({"user": [1], "age": [99]}).write_parquet(tmp_path / "users.parquet")
    data = {"user": "user", "tables": {"user": {"path": "users.parquet", "key": "user"}}}
    samples, _ = run(tmp_path, table(user=[1, 1, 1, 1]), data=data)
    assert samples["x.age"].to_list() == [1, 1, 1, 1]


def test_two_rows_of_an_entity_that_differ_are_refused_and_equal_ones_are_one(tmp_path: Path):
    data = {"user": "user", "tables": {"user": {"path": "users.parquet", "key": "user"}}}
    features = {"city": {"kind": "categorical"}}
    pl.DataFrame({"user": [1, 1], "city": ["a", "a"]}).write_parquet(tmp_path / "users.parquet")
    samples, _ = run(tmp_path, table(user=[1, 1, 1, 1]), data=data, features=features)
    assert len(samples) == 4
    pl.DataFrame({"user": [1, 1], "city": ["a", "b"]}).write_parquet(tmp_path / "users.parquet")
    with pytest.raises(DataError, match=r"users.parquet: column 'user' must hold each id once; 1 ids.*'1'"):
        run(tmp_path, table(user=[1, 1, 1, 1]), data=data, features=features)


def test_without_a_table_the_ids_of_the_samples_are_the_entities(tmp_path: Path):
    sections: dict[str, Any] = {"data": {"item": "v"}, "features": {"video": {"kind": "categorical", "column": "v"}}}
    run(tmp_path, table(v=[3, 1, None, 3]), **sections)
    document = spec(**sections)
    items = load_entities(document, tmp_path, "item", tmp_path / "out" / "samples.parquet")
    assert items is not None
    assert items.to_dicts() == [{"id": "1", "x.video": "1"}, {"id": "3", "x.video": "3"}]
    assert load_entities(document, tmp_path, "item") is None
    assert load_entities(document, tmp_path, "user", tmp_path / "out" / "samples.parquet") is None


def test_a_csv_and_several_files_are_one_table_in_the_order_of_their_names(tmp_path: Path):
    for name, rows in (("b", "0,1,5\n1,0,6\n"), ("a", "2,1,7\n0,,\n")):
        (tmp_path / f"part-{name}.csv").write_text(f"day,is_click,age\n{rows}")
    report = assemble(spec({"samples": "part-*.csv"}), tmp_path, tmp_path / "out")
    samples = pl.read_parquet(tmp_path / "out" / "samples.parquet")
    assert samples["x.age"].to_list() == [7, None, 5, 6]
    assert samples["split"].to_list() == ["test", "train", "train", "validation"]
    assert report.splits == {"train": 2, "validation": 1, "test": 1}


def test_a_csv_whose_later_lines_are_not_as_the_first_is_refused(tmp_path: Path):
    rows = "".join(f"{n % 3},0,{n}\n" for n in range(20_000))
    (tmp_path / "samples.csv").write_text(f"day,is_click,age\n{rows}0,0,old\n")
    with pytest.raises(DataError, match="does not hold what the spec declares"):
        assemble(spec({"samples": "samples.csv"}), tmp_path, tmp_path / "out")


def test_a_split_by_time_counts_back_from_the_last_row(tmp_path: Path):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    hours = [0, 23, 24, 24.01, 47, 48, 48.01, 72]
    frame = table(t=[start + timedelta(hours=h) for h in hours])
    data = {"time": "t", "split": {"by": "time", "validation": "1d", "test": "1d"}}
    samples, _ = run(tmp_path, frame, data=data)
    assert samples["split"].to_list() == ["train"] * 3 + ["validation"] * 3 + ["test"] * 2


def test_a_row_without_a_time_cannot_be_split_by_time(tmp_path: Path):
    data = {"time": "t", "time_unit": "iso", "split": {"by": "time", "validation": "1d", "test": "1d"}}
    times = ["2026-01-01", "2026-01-02 12:00", "2026-01-02T13:00:00Z", "2026-01-03", "soon"]
    with pytest.raises(DataError, match=r"data.time must hold a readable time in every row.*2 rows do not.*sample 1"):
        run(tmp_path, table(t=times), data=data)
    with pytest.raises(DataError, match=r"data.time: column 'time' must hold the time of at least one row"):
        run(tmp_path, table(t=["soon"] * 4), data=data)


def test_named_training_values_leave_other_rows_out_and_count_them(tmp_path: Path):
    frame = table(day=[0, 1, 2, 3, None])
    samples, report = run(tmp_path, frame, data={"split": {**THIRDS, "train": [0]}})
    assert samples["split"].to_list() == ["train", "validation", "test"]
    assert (report.rows, report.rows_read, report.outside_split) == (3, 5, 2)


def test_a_random_split_has_exact_shares_and_depends_on_the_seed_alone(tmp_path: Path):
    def split(seed: int) -> list[str]:
        data = {"split": {"by": "random", "validation": 0.2, "test": 0.3, "seed": seed}}
        samples, report = run(tmp_path, table(age=[0.0] * 1000), data=data)
        assert report.splits == {"train": 500, "validation": 200, "test": 300}
        return samples["split"].to_list()

    assert split(1) == split(1) != split(2)


def test_a_random_split_by_user_keeps_a_user_together(tmp_path: Path):
    users = [None if n % 50 == 0 else n % 40 for n in range(400)]
    data = {"user": "u", "split": {"by": "random", "validation": 0.25, "test": 0.25, "group": "user"}}
    samples, report = run(tmp_path, table(u=users), data=data)
    parts = samples.drop_nulls("user").group_by("user").agg(pl.col("split").n_unique())
    assert parts["split"].max() == 1
    assert set(samples.filter(pl.col("user").is_null())["split"]) == {"train"}
    assert min(report.splits.values()) > 50


def test_a_holdout_is_cut_in_two_and_never_trained_on(tmp_path: Path):
    table(age=[5.0] * 101).write_parquet(tmp_path / "holdout.parquet")
    data = {"holdout": "holdout.parquet", "split": {"by": "random", "validation": 0.5, "test": 0.5}}
    samples, report = run(tmp_path, table(age=[1.0] * 50), data=data)
    assert report.splits == {"train": 50, "validation": 50, "test": 51}
    assert set(samples.filter(pl.col("split") == "train")["x.age"]) == {1.0}
    assert samples["sample"].n_unique() == 151
    part = {**data, "split": {"by": "random", "validation": 0.25, "test": 0.25}}
    _, report = run(tmp_path, table(age=[1.0] * 50), data=part)
    assert (report.splits, report.outside_split) == ({"train": 50, "validation": 25, "test": 25}, 51)


def test_files_of_their_own_are_parts(tmp_path: Path):
    table(age=[2.0] * 4).write_parquet(tmp_path / "v.parquet")
    table(age=[3.0] * 5).write_parquet(tmp_path / "t.parquet")
    data = {"split": {"by": "files", "validation": "v.parquet", "test": "t.parquet"}}
    samples, report = run(tmp_path, table(age=[1.0] * 6), data=data)
    assert report.splits == {"train": 6, "validation": 4, "test": 5}
    assert samples.group_by("split").agg(pl.col("x.age").unique().first()).sort("x.age")["split"].to_list() == [
        "train",
        "validation",
        "test",
    ]


def test_a_part_without_rows_is_refused_by_name(tmp_path: Path):
    with pytest.raises(DataError, match=r"data.split: no row belongs to test \(3 rows\)"):
        run(tmp_path, table(day=[0, 0, 1]))
