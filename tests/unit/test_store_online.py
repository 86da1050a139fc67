"""The online store: only what changed is written, one user is read in time, and a Redis that dies costs one wait."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from onehull.errors import ArtifactError, MissingPartError
from onehull.spec import load_spec
from onehull.store import StoredUsers, apply, materialize, status
from tests.redis_server import RedisServer, needs_feast, require_redis

pytestmark = [needs_feast, pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")]

NOW = datetime.now(UTC).replace(microsecond=0)
SESAME = "s3cret,with=commas"


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def spec(store: dict[str, Any] | None = None, **user: Any):
    tables = {"user": {"path": "users.parquet", "key": "uid", **user}, "item": {"path": "items.csv", "key": "iid"}}
    split = {"by": "column", "column": "day", "validation": [1], "test": [2]}
    return load_spec(
        {
            "name": "test",
            "data": {
                "samples": "samples.csv", "user": "user", "item": "item", "time": "when", "time_unit": "iso",
                "tables": tables, "split": split,
            },
            "features": {
                "city": {"kind": "categorical"},
                "likes": {"kind": "list"},
                "taste": {"kind": "vector", "size": 2},
                "age": {"kind": "numeric"},
                "colour": {"kind": "categorical"},
                "item_id": {"kind": "categorical", "column": "item"},
            },
            "tasks": {"click": {"kind": "binary", "label": "is_click"}},
            "serving": {"display": {"title": "title"}},
            "store": store or {},
        }
    )  # fmt: skip


HISTORY: dict[str, Any] = {"time": "since", "created": "written"}
PATIENT_MS = 10_000
"""For tests that are not about the deadline, on machines that are busy."""
FEATURES = ("city", "likes", "taste", "age")


def write_users(directory: Path, *rows: tuple[str, str | None, float, float]) -> None:
    """Users as (id, city, hours since it is true, hours since it was written)."""
    frame = {
        "uid": [key for key, *_ in rows],
        "city": pl.Series([city for _, city, *_ in rows], dtype=pl.String),
        "since": [ago(true) for *_, true, _ in rows],
        "written": [ago(written) for *_, written in rows],
        "likes": [["a", "b"]] * len(rows),
        "taste": [[0.5, 0.25]] * len(rows),
        "age": pl.Series([None] * len(rows), dtype=pl.Float64),
    }
    pl.DataFrame(frame).write_parquet(directory / "users.parquet")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text("iid,colour,title\n1,red,One\n2,blue,Two\n")
    samples = "user,item,when,day,is_click\n" + "".join(f"u1,1,2026-01-01T00:00:0{day},{day},0\n" for day in range(3))
    (tmp_path / "samples.csv").write_text(samples)
    write_users(tmp_path, ("u1", "Rome", 3, 3), ("u2", "Oslo", 2, 2))
    return tmp_path


@pytest.fixture
def redis_server(tmp_path: Path):
    require_redis()
    server = RedisServer(tmp_path / "redis", SESAME)
    server.start()
    yield server
    server.kill()


def done(results) -> dict[str, tuple[int, int, int]]:
    return {view.view: (view.ids, view.written, view.withdrawn) for view in results}


def city(users: StoredUsers, user: str) -> Any:
    return users.read(user).values.get("city")


def test_only_what_changed_is_written_and_every_change_is_seen(data: Path):
    store, document = data / "store", spec(**HISTORY)
    apply(document, data, store)
    assert done(materialize(document, data, store, now=NOW)) == {"user": (2, 2, 0), "item": (2, 2, 0)}
    assert done(materialize(document, data, store, now=NOW)) == {"user": (2, 0, 0), "item": (2, 0, 0)}
    write_users(
        data,
        ("u1", "Rome", 3, 3),
        ("u1", "Bari", 3, 1),  # a correction of the same moment
        ("u2", "Oslo", 2, 2),
        ("u2", "Bergen", 4, 1),  # a gap filled in: older than what is known
        ("u3", "Turku", 9, 1),  # written late
        ("u3", "Espoo", -1, -1),  # true in an hour
    )
    assert done(materialize(document, data, store, now=NOW))["user"] == (3, 2, 0)
    users = StoredUsers(store, FEATURES, deadline_ms=PATIENT_MS)
    assert [city(users, user) for user in ("u1", "u2", "u3")] == ["Bari", "Oslo", "Turku"]
    assert done(materialize(document, data, store, now=NOW + timedelta(hours=2)))["user"] == (3, 1, 0)
    assert city(users, "u3") == "Espoo"
    users.close()


def test_a_value_that_went_missing_and_an_id_that_left_are_not_read_any_more(data: Path):
    store, document = data / "store", spec(**HISTORY)
    apply(document, data, store)
    materialize(document, data, store, now=NOW)
    write_users(data, ("u1", "Rome", 3, 3), ("u1", None, 1, 1))
    assert done(materialize(document, data, store, now=NOW))["user"] == (1, 1, 1)
    users = StoredUsers(store, FEATURES, deadline_ms=PATIENT_MS)
    read = users.read("u1")
    assert (read.outcome, read.values["city"], read.values["likes"]) == ("found", None, ["a", "b"])
    assert [users.read(user).outcome for user in ("u2", "nobody")] == ["missing", "missing"]
    users.close()


def test_a_read_gives_raw_values_and_their_age_and_says_when_they_are_stale(data: Path):
    store, document = data / "store", spec(**HISTORY)
    apply(document, data, store)
    materialize(document, data, store, now=NOW)
    users = StoredUsers(store, FEATURES, deadline_ms=PATIENT_MS, stale_after_s=2.5 * 3600)
    old, young = users.read("u1"), users.read("u2")
    assert old.values == {"city": "Rome", "likes": ["a", "b"], "taste": [0.5, 0.25], "age": None}
    assert (old.outcome, young.outcome) == ("stale", "found")
    since = (datetime.now(UTC) - NOW).total_seconds()
    assert old.age_seconds == pytest.approx(3 * 3600 + since, abs=60)
    users.close()


def test_items_are_a_table_as_the_bundle_holds_it(data: Path):
    store, document = data / "store", spec()
    apply(document, data, store)
    materialize(document, data, store)
    assert pl.read_parquet(store / "items.parquet").to_dicts() == [
        {"id": "1", "x.colour": "red", "show.title": "One", "x.item_id": "1"},
        {"id": "2", "x.colour": "blue", "show.title": "Two", "x.item_id": "2"},
    ]


def test_status_says_what_waits_and_what_was_lost(data: Path):
    store, document = data / "store", spec(**HISTORY)
    apply(document, data, store)
    before = status(document, data, store)[0]
    assert (before.waiting, before.materialized, before.online) == (2, None, "nothing given yet")
    materialize(document, data, store)
    after = status(document, data, store)[0]
    assert (after.ids, after.waiting, after.newest, after.online) == (2, 0, ago(2), "answers")
    write_users(data, ("u1", "Rome", 3, 3), ("u2", "Bergen", 1, 1))
    (store / "online.db").unlink()
    apply(document, data, store)
    lost = status(document, data, store)[0]
    assert (lost.waiting, lost.online) == (1, "lost values")


def test_a_repository_of_another_spec_is_not_filled(data: Path):
    store = data / "store"
    apply(spec(), data, store)
    features = {"city": {"kind": "categorical"}}
    other = spec().model_copy(
        update={"features": load_spec({**spec().model_dump(mode="json"), "features": features}).features}
    )
    with pytest.raises(
        ArtifactError, match=r"made from another spec. Bring it to the spec with: onehull features apply"
    ):
        materialize(other, data, store)
    with pytest.raises(ArtifactError, match="lacks features that the bundle reads: height"):
        StoredUsers(store, ["city", "height"])


def test_without_feast_the_message_says_how_to_get_it(data: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "feast", None)
    with pytest.raises(MissingPartError, match=r'pip install "onehull\[feast\]"'):
        apply(spec(), data, data / "store")


def test_feast_does_not_make_the_metrics_of_two_services_one():
    code = (
        "from onehull.store.connect import import_feast\n"
        "import_feast()\n"
        "import os\n"
        "import prometheus_client as p\n"
        "a, b = (p.Counter('reads', 'reads', registry=p.CollectorRegistry()) for _ in range(2))\n"
        "a.inc()\n"
        "print(b._value.get(), [name for name in os.environ if name.startswith('PROMETHEUS')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "0.0 []"


def test_redis_gives_what_sqlite_gives_and_its_password_stands_nowhere(data: Path, redis_server, monkeypatch, caplog):
    store = data / "store"
    document = spec({"online": "redis", "redis": redis_server.address}, **HISTORY)
    apply(document, data, store)
    with pytest.raises(ArtifactError, match=rf"Redis at {redis_server.address} does not answer.*") as refused:
        materialize(document, data, store)
    monkeypatch.setenv("ONEHULL_REDIS_PASSWORD", SESAME)
    materialize(document, data, store)
    write_users(data, ("u1", "Rome", 3, 3), ("u1", "Bari", 3, 1), ("u2", "Oslo", 2, 2))
    assert done(materialize(document, data, store))["user"] == (2, 1, 0)
    users = StoredUsers(store, FEATURES, deadline_ms=PATIENT_MS)
    assert users.read("u1").values == {"city": "Bari", "likes": ["a", "b"], "taste": [0.5, 0.25], "age": None}
    assert users.read("nobody").outcome == "missing"
    users.close()
    files = [file for file in store.rglob("*") if file.is_file()]
    assert not [file for file in files if SESAME.encode() in file.read_bytes()]
    assert SESAME not in caplog.text + str(refused.value) + repr(status(document, data, store))


def test_a_redis_that_lost_its_memory_is_filled_again(data: Path, redis_server, monkeypatch):
    monkeypatch.setenv("ONEHULL_REDIS_PASSWORD", SESAME)
    store, document = data / "store", spec({"online": "redis", "redis": redis_server.address}, **HISTORY)
    apply(document, data, store)
    materialize(document, data, store)
    redis_server.kill()
    assert "does not answer" in status(document, data, store)[0].online
    redis_server.start()
    assert done(materialize(document, data, store)) == {"user": (2, 2, 0), "item": (2, 2, 0)}


def test_a_dead_redis_costs_one_wait_and_is_used_again_when_it_is_back(data: Path, redis_server, monkeypatch):
    monkeypatch.setenv("ONEHULL_REDIS_PASSWORD", SESAME)
    store, document = data / "store", spec({"online": "redis", "redis": redis_server.address}, **HISTORY)
    apply(document, data, store)
    materialize(document, data, store)
    users = StoredUsers(store, FEATURES, deadline_ms=500, pause_s=0.2)
    assert users.read("u1").outcome == "found"
    redis_server.hold()
    assert [users.read("u1").outcome for _ in range(50)] == ["failed"] + ["skipped"] * 49
    assert users.fault == f"Redis at {redis_server.address}: no answer within 500 ms"
    redis_server.go_on()
    end = time.monotonic() + 30
    while users.read("u1").outcome != "found":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert users.fault is None
    redis_server.kill()
    assert [users.read("u1").outcome for _ in range(3)] == ["failed", "skipped", "skipped"]
    users.close()
