"""The ranker on a feature store: users of now, items of now, and a Redis that is killed while it ranks."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from onehull.errors import ArtifactError
from onehull.export import open_bundle
from onehull.serve import RankRequest
from onehull.serve.app import application, build_service
from onehull.spec import Spec, load_spec
from onehull.store import StoredUsers, apply, materialize
from onehull.store.connect import ITEMS
from tests.redis_server import RedisServer, needs_feast, require_redis

pytestmark = [needs_feast, pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")]

# In the small bundle u0 sails and u1 cooks; i0 is of sailing, i1 of cooking, i2 of music.
CANDIDATES = ["i0", "i1", "i2"]
CONTEXT = {"hour_of_day": 20, "temperature": 12}


def write_users(directory: Path, **interests: str) -> None:
    frame = {"user": list(interests), "interest": list(interests.values()), "age": [30.0] * len(interests)}
    pl.DataFrame(frame).write_parquet(directory / "users.parquet")


def write_items(directory: Path, *ids: str, title: str = "") -> None:
    categories = [("sailing", "cooking", "music")[n % 3] for n in range(len(ids))]
    frame = {"item": ids, "category": categories, "duration": [60.0] * len(ids), "tags": [["short"]] * len(ids)}
    pl.DataFrame({**frame, "title": [f"{title}{key}" for key in ids]}).write_parquet(directory / "items.parquet")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    write_users(tmp_path / "data", u0="music", new="cooking")
    write_items(tmp_path / "data", *CANDIDATES)
    return tmp_path / "data"


@pytest.fixture
def spec(tables):
    """The small bundle's spec with a section for the store."""

    def make(**store: Any) -> Spec:
        document, *_ = tables
        paths = {entity: {"path": f"{entity}s.parquet", "key": entity} for entity in ("user", "item")}
        return load_spec({**document, "data": {**document["data"], "tables": paths}, "store": store})

    return make


@pytest.fixture
def stored(data, spec, tmp_path):
    """A repository on SQLite, filled."""
    apply(spec(), data, tmp_path / "store")
    materialize(spec(), data, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def serve_with(make_ranker, tmp_path):
    """Makes a service on the small bundle and a repository; closed at the end."""
    services = []

    def make(store: Path, deadline_ms: float = 10_000):
        ranker = make_ranker()
        service = build_service(open_bundle(tmp_path / "ranker" / "1"), tmp_path / "events", ranker, features=store)
        services.append(service)
        assert service.ranker.stored is not None
        service.ranker.stored.close()
        # A busy machine is not what most of these tests are about.
        users = StoredUsers(store, ("interest", "age"), deadline_ms=deadline_ms, pause_s=0.1)
        service.ranker = replace(service.ranker, stored=users)
        return service

    yield make
    for service in services:
        service.close()


def first(service, user: str) -> tuple[str, str, list[str]]:
    """The first item of three, the outcome of the store's read, and the notes."""
    request = RankRequest(user=user, candidates=CANDIDATES, formula="click", context=CONTEXT)
    answer = service.rank(request)
    return answer.items[0].id, answer.trace.stored.outcome, answer.notes


def metric(service, name: str) -> float:
    lines = [line.rsplit(" ", 1) for line in service.metrics.text().decode().splitlines()]
    return next((float(parts[1]) for parts in lines if parts[0] == name), 0.0)


def test_a_user_is_ranked_by_what_the_store_knows_and_else_by_what_the_bundle_knows(stored, serve_with):
    service = serve_with(stored)
    assert first(service, "u0") == ("i2", "found", [])
    assert first(service, "new") == ("i1", "found", [])
    bundle = "The feature store does not know this user: their attributes are those of the bundle."
    assert first(service, "u1") == ("i1", "missing", [bundle])
    nothing = "The feature store does not know this user: their attributes count as missing."
    assert first(service, "nobody")[1:] == ("missing", [nothing])
    assert metric(service, 'onehull_feature_store_reads_total{outcome="found"}') == 2
    assert metric(service, 'onehull_feature_store_reads_total{outcome="missing"}') == 2
    assert metric(service, "onehull_feature_freshness_seconds_count") == 2
    assert 0 <= metric(service, "onehull_feature_freshness_seconds_sum") < 3600
    assert service.health()["status"] == "ok"


def test_values_of_the_store_are_scored_as_those_of_the_bundle(data, spec, tables, tmp_path, serve_with):
    _, users, _ = tables
    users.select(user="id", interest="x.interest", age="x.age").write_parquet(data / "users.parquet")
    apply(spec(), data, tmp_path / "store")
    materialize(spec(), data, tmp_path / "store")
    service = serve_with(tmp_path / "store")
    from_bundle = replace(service.ranker, stored=None)
    for user in users["id"]:
        request = RankRequest(user=user, context=CONTEXT)
        now, then = service.ranker.rank(request), from_bundle.rank(request)
        assert (now.trace.stored.outcome, now.trace.missing) == ("found", then.trace.missing)
        assert [(i.id, i.score, i.scores) for i in now.items] == [(i.id, i.score, i.scores) for i in then.items]


def test_a_value_that_is_new_in_the_store_is_in_the_next_answer(stored, serve_with, data, spec):
    service = serve_with(stored)
    assert first(service, "u0")[0] == "i2"
    write_users(data, u0="cooking")
    materialize(spec(), data, stored)
    assert first(service, "u0") == ("i1", "found", [])


def test_stale_values_are_used_and_told(stored, serve_with, tmp_path):
    service = serve_with(stored)
    old = StoredUsers(stored, ("interest", "age"), deadline_ms=10_000, stale_after_s=1e-9)
    service.ranker.stored.close()
    service.ranker = replace(service.ranker, stored=old)
    assert first(service, "u0") == ("i2", "stale", ["This user's attributes are stale: they are 0.0 days old."])


def test_a_redis_that_is_killed_while_it_ranks_costs_no_answer(data, spec, serve_with, tmp_path, client_of):
    require_redis()
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        document, store = spec(online="redis", redis=server.address), tmp_path / "store"
        apply(document, data, store)
        materialize(document, data, store)
        service = serve_with(store)
        answers: list[tuple[str, str, list[str]]] = []
        ranking = threading.Event()

        def rank() -> None:
            while not ranking.is_set():
                answers.append(first(service, "u0"))

        thread = threading.Thread(target=rank)
        thread.start()
        while len(answers) < 5:
            time.sleep(0.01)
        server.kill()
        while answers[-1][1] != "skipped":
            time.sleep(0.01)
        ranking.set()
        thread.join()
        outcomes = [outcome for _, outcome, _ in answers]
        assert outcomes.count("failed") == 1
        assert outcomes == sorted(outcomes, key=["found", "failed", "skipped"].index)
        note = "The feature store does not answer: their attributes are those of the bundle."
        assert {(item, *notes) for item, outcome, notes in answers if outcome == "found"} == {("i2",)}
        assert {(item, *notes) for item, outcome, notes in answers if outcome != "found"} == {("i0", note)}
        with client_of(application(service)) as client:
            body = {"user": "u0", "candidates": CANDIDATES, "context": CONTEXT}
            answer = client.post("/rank", json=body)
            assert (answer.status_code, answer.json()["notes"]) == (200, [note])
            health = client.get("/healthz").json()
            assert health["status"] == "degraded"
            assert health["reasons"][0].startswith(f"feature store: Redis at {server.address}: ConnectionError")
            assert metric(service, 'onehull_feature_store_reads_total{outcome="failed"}') == 1
            server.start()
            materialize(document, data, store)
            end = time.monotonic() + 30
            while client.get("/healthz").json()["status"] != "ok":
                assert time.monotonic() < end
                time.sleep(0.05)
            assert first(service, "u0") == ("i2", "found", [])
    finally:
        server.kill()


def test_a_service_starts_without_its_redis(data, spec, serve_with, tmp_path):
    apply(spec(online="redis", redis="127.0.0.1:1"), data, tmp_path / "store")
    service = serve_with(tmp_path / "store")
    assert first(service, "u1")[:2] == ("i1", "skipped")
    reasons = service.health()["reasons"]
    assert reasons[0].startswith("feature store: Redis at 127.0.0.1:1: ConnectionError")
    assert reasons[1].endswith("items.parquet is missing: make it with onehull features materialize; the items in use "
                               "are older")  # fmt: skip


def test_items_are_refreshed_and_a_table_that_cannot_be_used_changes_nothing(stored, serve_with, data, spec):
    service = serve_with(stored)
    request = RankRequest(user="u0", k=10, context=CONTEXT)
    assert {item.id for item in service.rank(request).items} == set(CANDIDATES)
    write_items(data, "i0", "i7", "brand new", title="Now: ")
    materialize(spec(), data, stored)
    service.refresh.look()
    items = service.rank(request).items
    assert {item.id for item in items} == {"i0", "i7", "brand new"}
    assert {item.show["title"] for item in items} == {"Now: i0", "Now: i7", "Now: brand new"}
    assert service.about["items"] == metric(service, "onehull_items") == 3
    path = stored / ITEMS
    assert metric(service, "onehull_items_written_timestamp_seconds") == pytest.approx(path.stat().st_mtime)
    whole = path.read_bytes()
    for broken, reason in {
        whole[:100]: "cannot be used",
        b"": "cannot be used",
        _parquet(pl.read_parquet(path).drop("x.category")): "lacks features that the bundle reads: category",
        _parquet(pl.read_parquet(path).clear()): "holds no item",
    }.items():
        path.write_bytes(broken)
        service.refresh.look()
        assert reason in service.health()["reasons"][0]
        assert len(service.rank(request).items) == 3
    path.unlink()
    service.refresh.look()
    assert "is missing" in service.health()["reasons"][0]
    path.write_bytes(whole)
    service.refresh.look()
    assert service.health()["status"] == "ok"


def test_every_answer_is_of_one_table_while_items_change(stored, serve_with):
    service = serve_with(stored)
    table = pl.read_parquet(stored / ITEMS)
    others = [
        pl.concat([table] * 30).with_columns(
            pl.Series("id", [f"{word}-{n:02}" for n in range(90)]), pl.lit(word).alias("show.title")
        )
        for word in ("first", "second")
    ]
    service.take_items(others[0], 0.0)
    done = threading.Event()

    def change() -> None:
        for turn in range(60):
            service.take_items(others[turn % 2], 0.0)
        done.set()

    thread = threading.Thread(target=change)
    thread.start()
    seen = set()
    while not done.is_set():
        answer = service.rank(RankRequest(user="u0", k=90, context=CONTEXT))
        words = {item.id.split("-")[0] for item in answer.items} | {item.show["title"] for item in answer.items}
        assert (len(answer.items), len(words)) == (90, 1)
        seen |= words
    thread.join()
    assert seen == {"first", "second"}


def test_the_thread_sees_a_new_table_by_itself(stored, serve_with):
    from onehull.serve.stored import ItemRefresh

    taken: list[int] = []
    refresh = ItemRefresh(stored, lambda items, _: taken.append(len(items)), every_s=0.02)
    beside = stored / "beside.parquet"
    pl.read_parquet(stored / ITEMS).head(2).write_parquet(beside)
    beside.replace(stored / ITEMS)
    end = time.monotonic() + 30
    while taken != [3, 2]:
        assert time.monotonic() < end
        time.sleep(0.01)
    refresh.close()


def test_a_repository_that_lacks_a_feature_is_refused_at_the_start(data, spec, serve_with, tmp_path):
    document = spec()
    features = {name: feature for name, feature in document.features.items() if name != "age"}
    apply(document.model_copy(update={"features": features}), data, tmp_path / "store")
    with pytest.raises(ArtifactError, match=r"lacks features that the bundle reads: age\. Apply the spec"):
        serve_with(tmp_path / "store")


def _parquet(frame: pl.DataFrame) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()
