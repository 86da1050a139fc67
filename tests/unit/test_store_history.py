"""The store's join as of a moment: row by row the same as assembly's, on Feast itself."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onehull.errors import ArtifactError, SpecError
from onehull.events import assemble
from onehull.spec import load_spec
from onehull.store import apply, historical
from tests.redis_server import needs_feast

# From Python 3.13 on, SQLite connections that Feast leaves to the garbage collector warn.
pytestmark = [needs_feast, pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")]

START = datetime(2026, 1, 1, tzinfo=UTC)
FEATURES: dict[str, Any] = {
    "city": {"kind": "categorical"},
    "likes": {"kind": "list"},
    "age": {"kind": "numeric"},
    "taste": {"kind": "vector", "size": 2},
    "colour": {"kind": "categorical"},
    "user_id": {"kind": "categorical", "column": "user"},
}


def spec(user: dict[str, Any], **more: Any):
    tables = {"user": {"path": "users.parquet", "key": "uid", **user}, "item": {"path": "items.parquet", "key": "iid"}}
    split = {"by": "column", "column": "day", "validation": [1], "test": [2]}
    data = {"samples": "samples.parquet", "user": "user", "item": "item", "time": "when", "tables": tables}
    return load_spec(
        {
            "name": "test",
            "data": {**data, "split": split},
            "features": FEATURES,
            "tasks": {"click": {"kind": "binary", "label": "is_click"}},
            **more,
        }
    )


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[tuple[str, int, int]], list[tuple[str | None, str, int]]]:
    """Rows of users (id, true since, written) and impressions (user, item, time); times are few, so that they meet."""
    hours = st.integers(0, 5)
    rows = draw(st.lists(st.tuples(st.sampled_from("ab"), hours, hours), min_size=1, max_size=12, unique=True))
    users = st.sampled_from(["a", "b", "nobody"]) | st.none()
    seen = draw(st.lists(st.tuples(users, st.sampled_from("xz"), hours), min_size=3, max_size=12))
    return rows, seen


def write_world(
    directory: Path, rows: list[tuple[str, int, int]], seen: list[tuple[str | None, str, int]]
) -> pl.DataFrame:
    directory.mkdir(parents=True, exist_ok=True)
    values = {
        "uid": [key for key, _, _ in rows],
        "since": [at(since) for _, since, _ in rows],
        "written": [at(written) for _, _, written in rows],
        "city": [f"c{n}" if n % 4 else None for n in range(len(rows))],
        "likes": [[f"l{n}", "l"] if n % 3 else [] for n in range(len(rows))],
        "age": [n / 3 if n % 5 else None for n in range(len(rows))],
        "taste": [[n / 7, 1.0] if n % 2 else None for n in range(len(rows))],
    }
    dtypes: dict[str, Any] = {"likes": pl.List(pl.String), "taste": pl.List(pl.Float64), "city": pl.String}
    pl.DataFrame(values, schema_overrides={**dtypes, "age": pl.Float64}).write_parquet(directory / "users.parquet")
    pl.DataFrame({"iid": ["x", "y"], "colour": ["red", "blue"]}).write_parquet(directory / "items.parquet")
    samples = {
        "user": pl.Series([user for user, _, _ in seen], dtype=pl.String),
        "item": [item for _, item, _ in seen],
        "when": [at(hour) for _, _, hour in seen],
        "day": [row % 3 for row in range(len(seen))],
        "is_click": [0] * len(seen),
    }
    pl.DataFrame(samples).write_parquet(directory / "samples.parquet")
    return pl.DataFrame(samples)


@settings(max_examples=12, deadline=None)
@given(worlds())
def test_the_store_joins_what_assembly_joins_row_by_row(tmp_path_factory, world):
    directory = tmp_path_factory.mktemp("world")
    write_world(directory, *world)
    document = spec({"time": "since", "created": "written"})
    assemble(document, directory, directory / "out")
    samples = pl.read_parquet(directory / "out" / "samples.parquet")
    apply(document, directory, directory / "store")
    asked = samples.select("sample", "user", "item", "time")
    joined = historical(directory / "store", asked)
    attributes = [f"x.{name}" for name in FEATURES if name != "user_id"]
    assert joined.columns == [*asked.columns, *attributes]
    assert joined.select(asked.columns).equals(asked)
    assert joined.select(attributes).equals(samples.select(attributes))


def test_rows_that_feast_alone_would_drop_stay_in_their_place(tmp_path: Path):
    write_world(tmp_path, [("a", 3, 3)], [("a", "x", 4), ("a", "x", 4), ("a", "x", 1), (None, "z", 4)])
    document = spec({"time": "since"})
    apply(document, tmp_path, tmp_path / "store")
    rows = pl.DataFrame(
        {"row": [0, 1, 2, 3, 4], "user": ["a", "a", "a", None, "a"], "time": [at(4), at(4), at(1), at(4), None]}
    )
    joined = historical(tmp_path / "store", rows)
    assert joined["row"].to_list() == [0, 1, 2, 3, 4]
    assert joined["x.likes"].to_list() == [[], [], None, None, None]
    nothing = historical(tmp_path / "store", rows.with_columns(user=pl.lit(None, dtype=pl.String)))
    assert nothing["x.likes"].to_list() == [None] * 5


def test_a_repository_can_be_moved_and_follows_its_spec(tmp_path: Path):
    write_world(tmp_path, [("a", 0, 0)], [("a", "x", 1)] * 3)
    rows = pl.DataFrame({"user": ["a"], "item": ["x"], "time": [at(1)]})
    apply(spec({"time": "since"}), tmp_path, tmp_path / "store")
    shutil.move(tmp_path / "store", tmp_path / "moved")
    assert {path.name for path in (tmp_path / "moved").iterdir()} >= {"registry.db", "online.db", "offline"}
    assert historical(tmp_path / "moved", rows)["x.colour"].to_list() == ["red"]
    users_only = {name: FEATURES[name] for name in ("city", "age")}
    apply(spec({"time": "since"}, features=users_only), tmp_path, tmp_path / "moved")
    assert historical(tmp_path / "moved", rows).columns == [*rows.columns, "x.city", "x.age"]


def test_without_a_repository_or_anything_to_store_the_message_says_what_to_do(tmp_path: Path):
    write_world(tmp_path, [("a", 0, 0)], [("a", "x", 1)] * 3)
    with pytest.raises(ArtifactError, match=r"holds no feature store. Make one with: onehull features apply"):
        historical(tmp_path, pl.DataFrame({"user": ["a"], "time": [at(1)]}))
    ids_only = {"user_id": FEATURES["user_id"]}
    with pytest.raises(SpecError, match=r"data.tables must name a table that a feature reads"):
        apply(spec({}, features=ids_only), tmp_path, tmp_path / "store")
    assert not (tmp_path / "store").exists()
