"""Attributes with a history: a sample sees what was known at its time, and no more."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onehull.errors import DataError, SpecError
from onehull.events import assemble, data_faults, load_entities
from onehull.events.history import KNOWN, TRUE_FROM, WRITTEN, attach_known, history, latest
from onehull.spec import load_spec

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def spec(user: dict[str, Any], features: dict[str, Any] | None = None, **data: Any):
    split = {"by": "column", "column": "day", "validation": [1], "test": [2]}
    return load_spec(
        {
            "name": "test",
            "data": {
                "samples": "samples.parquet",
                "user": "user",
                "time": "when",
                "tables": {"user": {"path": "users.*", "key": "uid", **user}},
                "split": split,
                **data,
            },
            "features": features or {"city": {"kind": "categorical"}},
            "tasks": {"click": {"kind": "binary", "label": "is_click"}},
        }
    )


def write_samples(directory: Path, users: list[str | None], hours: list[float]) -> None:
    frame = {"user": users, "when": [at(hour) for hour in hours], "day": [row % 3 for row in range(len(users))]}
    pl.DataFrame({**frame, "is_click": [0] * len(users)}).write_parquet(directory / "samples.parquet")


def cities(directory: Path, **document: Any) -> list[str | None]:
    assemble(spec({"time": "since", **document}), directory, directory / "out")
    return pl.read_parquet(directory / "out" / "samples.parquet")["x.city"].to_list()


def value_at(rows: list[dict[str, Any]], user: str | None, moment: datetime | None) -> str | None:
    """The definition, read row by row."""
    if moment is None:
        return None
    known = [row for row in rows if row["id"] == user and max(row[TRUE_FROM], row[WRITTEN]) <= moment]
    return max(known, key=lambda row: (row[TRUE_FROM], row[WRITTEN]))["v"] if known else None


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[str | None], list[datetime | None]]:
    ids, hours = st.sampled_from(["a", "b", "c"]), st.integers(0, 6)
    keys = draw(st.lists(st.tuples(ids, hours, hours), max_size=14, unique=True))
    rows = [
        {"id": key, TRUE_FROM: at(true), WRITTEN: at(written), "v": f"v{number}"}
        for number, (key, true, written) in enumerate(keys)
    ]
    asked = draw(st.lists(st.tuples(ids | st.none() | st.just("nobody"), hours | st.none()), min_size=1, max_size=14))
    return rows, [user for user, _ in asked], [None if hour is None else at(hour) for _, hour in asked]


SCHEMA: dict[str, Any] = {
    "id": pl.String,
    TRUE_FROM: pl.Datetime("us", "UTC"),
    WRITTEN: pl.Datetime("us", "UTC"),
    "v": pl.String,
}


@settings(max_examples=150, deadline=None)
@given(cases())
def test_every_row_gets_what_its_definition_says_and_stays_in_its_place(case):
    rows, users, moments = case
    table = history(pl.DataFrame(rows, SCHEMA, orient="row"))
    samples = pl.LazyFrame(
        {"user": users, "time": moments, "row": range(len(users))},
        {"user": pl.String, "time": pl.Datetime("us", "UTC"), "row": pl.Int64},
    )
    joined = attach_known(samples, table, "user").collect()
    assert joined.columns == ["user", "time", "row", "v"]
    assert joined["row"].to_list() == list(range(len(users)))
    assert joined["v"].to_list() == [value_at(rows, user, moment) for user, moment in zip(users, moments, strict=True)]
    for moment in {moment for moment in moments if moment is not None}:
        now = {row["id"]: row["v"] for row in latest(table, moment).to_dicts()}
        known = {key: value_at(rows, key, moment) for key in "abc"}
        assert now == {key: value for key, value in known.items() if value is not None}


def test_samples_see_the_row_of_their_time_and_equal_ones_all_stay(tmp_path: Path):
    write_samples(tmp_path, ["1", "1", "1", "1", "2", None], [5, 1, 5, 0, 9, 9])
    pl.DataFrame({"uid": [1, 1, 1], "city": ["b", "a", "late"], "since": [at(4), at(1), at(20)]}).write_parquet(
        tmp_path / "users.parquet"
    )
    assert cities(tmp_path) == ["b", "a", "b", None, None, None]


def test_what_was_written_later_was_not_known(tmp_path: Path):
    write_samples(tmp_path, ["1"] * 4, [2, 5, 7, 9])
    rows = {
        "uid": [1, 1, 1, 1],
        "city": ["first", "corrected", "filled in", "second"],
        "since": [at(1), at(1), at(0), at(6)],
        "written": [at(1), at(4), at(8), at(6)],
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "users.parquet")
    assert cities(tmp_path, created="written") == ["first", "corrected", "second", "second"]


def test_impressions_of_a_log_see_the_row_of_their_time(tmp_path: Path):
    lines = [
        {"event": "impression", "id": f"i{hour}", "time": at(hour).isoformat(), "user": "1", "item": "v", "context": {}}
        for hour in range(6)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "clicks.jsonl").write_text("")
    since = [START.timestamp() + 3600 * hour for hour in (1, 4)]
    pl.DataFrame({"uid": ["1", "1"], "city": ["a", "b"], "since": since}).write_ndjson(tmp_path / "users.jsonl")
    document = {
        "name": "test",
        "data": {
            "events": {"impressions": "log.jsonl", "feedback": "clicks.jsonl"},
            "tables": {"user": {"path": "users.jsonl", "key": "uid", "time": "since"}},
            "split": {"by": "time", "validation": "1h", "test": "1h"},
        },
        "features": {"city": {"kind": "categorical"}},
        "tasks": {"click": {"kind": "binary", "event": "click", "window": "1m"}},
    }
    assemble(load_spec(document), tmp_path, tmp_path / "out")
    samples = pl.read_parquet(tmp_path / "out" / "samples.parquet").sort("time")
    assert samples["x.city"].to_list() == [None, "a", "a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("unit", "moments"),
    [
        ("s", [3600, 10800]),
        ("ms", [3_600_000, 10_800_000]),
        ("iso", ["1970-01-01T01:00:00", "1970-01-01T04:00:00+01:00"]),
    ],
)
def test_moments_are_read_in_the_unit_of_the_data(tmp_path: Path, unit: str, moments: list[Any]):
    times = [moments[0], moments[1], moments[1]]
    pl.DataFrame({"user": ["1"] * 3, "when": times, "day": [0, 1, 2], "is_click": [0] * 3}).write_parquet(
        tmp_path / "samples.parquet"
    )
    pl.DataFrame({"uid": ["1", "1"], "city": ["a", "b"], "since": moments}).write_ndjson(tmp_path / "users.jsonl")
    document = spec({"time": "since"}, time_unit=unit)
    assemble(document, tmp_path, tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "samples.parquet")["x.city"].to_list() == ["a", "b", "b"]


def test_a_bundle_holds_the_latest_row_that_counts_now(tmp_path: Path):
    write_samples(tmp_path, ["1", "2", "3"], [1, 1, 1])
    rows = {"uid": [1, 1, 2, 3], "city": ["old", "new", "only", "tomorrow's"], "since": [at(0), at(2), at(1), at(24)]}
    pl.DataFrame(rows).write_parquet(tmp_path / "users.parquet")
    features = {"city": {"kind": "categorical"}, "user": {"kind": "categorical"}}
    users = load_entities(spec({"time": "since"}, features), tmp_path, "user", now=at(3))
    assert users is not None
    assert KNOWN not in users.columns
    assert users.to_dicts() == [
        {"id": "1", "x.city": "new", "x.user": "1"},
        {"id": "2", "x.city": "only", "x.user": "2"},
    ]


def test_rows_that_differ_at_one_moment_are_refused_and_equal_ones_are_one(tmp_path: Path):
    write_samples(tmp_path, ["1"] * 3, [1, 2, 3])
    pl.DataFrame({"uid": [1, 1], "city": ["a", "a"], "since": [at(0)] * 2}).write_parquet(tmp_path / "users.parquet")
    assert cities(tmp_path) == ["a"] * 3
    rows = {"uid": [1, 1], "city": ["a", "b"], "since": [at(0)] * 2, "written": [at(1), at(2)]}
    pl.DataFrame(rows).write_parquet(tmp_path / "users.parquet")
    with pytest.raises(DataError, match=r"columns 'uid', 'since' must differ.*2 rows do not.*'1'.*\(created\)"):
        cities(tmp_path)
    assert cities(tmp_path, created="written") == ["a", "b", "b"]


def test_a_moment_that_is_missing_is_refused_with_its_column(tmp_path: Path):
    write_samples(tmp_path, ["1"] * 3, [1, 2, 3])
    rows = {"uid": [1, 1], "city": ["a", "b"], "since": [at(0), at(1)], "written": [at(1), None]}
    pl.DataFrame(rows).write_parquet(tmp_path / "users.parquet")
    with pytest.raises(DataError, match="column 'written' must hold a moment in every row; 1 rows have none"):
        cities(tmp_path, created="written")


def test_absent_and_unusable_columns_of_a_history_are_told_before_anything_is_read(tmp_path: Path):
    write_samples(tmp_path, ["1"] * 3, [1, 2, 3])
    pl.DataFrame({"uid": [1], "city": ["a"], "since": ["yesterday"]}).write_parquet(tmp_path / "users.parquet")
    faults = data_faults(spec({"time": "since", "created": "sinse"}), tmp_path)
    assert [fault.place for fault in faults] == ["data.tables.user.time", "data.tables.user.created"]
    assert "must hold numbers where data.time_unit is s" in str(faults[0])
    assert "Did you mean 'since'?" in str(faults[1])
    faults = data_faults(spec({"time": "since"}, time_unit="iso", time=None), tmp_path)
    assert [fault.place for fault in faults] == ["data.time"]
    with pytest.raises(SpecError, match=r"data\.tables\.user must name time"):
        spec({"created": "since"})
