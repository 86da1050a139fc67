from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onehull.events import assemble
from onehull.serve.app import application
from onehull.serve.event_log import EventLog
from onehull.spec import load_spec

JSON = {"content-type": "application/json"}


@pytest.fixture
def client(make_service, client_of):
    with client_of(application(make_service())) as client:
        yield client


def later(days):
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def post(client, path, body):
    content = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return client.post(path, content=content, headers=JSON)


def test_rank_answers_with_scores_formula_and_impressions(client):
    answer = post(client, "/rank", {"user": "u1", "context": {"hour_of_day": 20}, "k": 3}).json()
    assert answer["model"] == {"name": "harbour", "version": 1}
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3]
    first = answer["items"][0]
    assert set(first["scores"]) == {"click", "like", "watch"}
    assert first["show"]["title"].endswith(first["id"][1:])
    assert first["impression"].startswith(answer["request"])


def test_what_is_served_and_what_comes_of_it_is_in_the_log(client, tmp_path, read_log):
    body = {"user": "u1", "context": {"hour_of_day": 20}, "k": 2}
    items = post(client, "/rank", body).json()["items"]
    sent = [
        {"event": "click", "impression": items[0]["impression"], "id": "e1"},
        {"event": "watch", "impression": items[0]["impression"], "value": 12.5, "time": "2026-01-05T10:00:00+02:00"},
    ]
    response = post(client, "/events", sent)
    assert (response.status_code, response.json()) == (202, {"accepted": 2})
    shown = read_log(tmp_path / "events", "impressions")
    assert [(line["id"], line["item"], line["user"]) for line in shown] == [
        (item["impression"], item["id"], "u1") for item in items
    ]
    assert [line["context"] for line in shown] == [
        {"hour_of_day": 20, "position": 0},
        {"hour_of_day": 20, "position": 1},
    ]
    click, watch = read_log(tmp_path / "events", "feedback")
    assert (click["event"], click["impression"], click["id"]) == ("click", items[0]["impression"], "e1")
    assert (watch["value"], watch["time"]) == (12.5, "2026-01-05T08:00:00.000Z")


def test_the_log_is_one_that_assembly_reads(client, tmp_path, tables):
    spec_document, users, items_frame = tables
    items = post(client, "/rank", {"user": "u1", "context": {"hour_of_day": 20}, "k": 4}).json()["items"]
    assert post(client, "/events", {"event": "click", "impression": items[2]["impression"]}).status_code == 202
    log = tmp_path / "events"
    users.rename({"id": "user", "x.interest": "interest", "x.age": "age"}).write_parquet(log / "users.parquet")
    table = items_frame.rename({"id": "item", "x.category": "category", "x.tags": "tags", "x.duration": "duration"})
    table.with_columns(pl.lit("x").alias("title")).write_parquet(log / "items.parquet")
    paths = {name: {"path": f"{name}s.parquet", "key": name} for name in ("user", "item")}
    split = {"by": "random", "validation": 0.3, "test": 0.3}
    features = {name: feature for name, feature in spec_document["features"].items() if name != "temperature"}
    # Two days later every window is closed, so that no click is a zero.
    events = {**spec_document["data"]["events"], "complete_until": later(days=2)}
    data = {**spec_document["data"], "events": events, "tables": paths, "split": split}
    spec = load_spec({**spec_document, "features": features, "data": data})
    assemble(spec, log, tmp_path / "samples")
    samples = pl.read_parquet(tmp_path / "samples" / "samples.parquet").sort("sample")
    assert samples["item"].to_list() == [item["id"] for item in items]
    assert samples["y.click"].to_list() == [0.0, 0.0, 1.0, 0.0]
    assert samples["x.hour"].to_list() == ["20"] * 4


def test_a_preview_logs_nothing(client, tmp_path, read_log):
    answer = post(client, "/rank", {"user": "u1", "k": 2, "log": False}).json()
    assert [item["impression"] for item in answer["items"]] == [None, None]
    assert read_log(tmp_path / "events", "impressions") == []


def test_users_formula_about(client):
    found = client.get("/users", params={"q": "U1", "limit": 5}).json()
    assert found["total"] == 11
    assert found["users"][0] == {"id": "u1", "attributes": {"user": "u1", "interest": "cooking", "age": 19.0}}
    assert client.get("/users", params={"q": "cooking"}).json()["total"] == 8
    assert len(client.get("/users").json()["users"]) == 40
    formula = client.get("/formula").json()
    assert formula["text"] == "click^1 * (1 + watch)^0.5 + 4 * like"
    assert formula["weights"][2] == {"name": "like.times", "value": 4.0, "min": 0.0, "max": 10.0, "step": 0.1}
    about = client.get("/about").json()
    assert about["simulated"] is True
    assert about["tasks"]["watch"] == {"kind": "regression"}
    assert about["context"][0]["field"] == "hour_of_day"
    assert about["context"][0]["choices"][:2] == ["0", "1"]


def test_health_and_metrics_tell_of_drift(client):
    assert client.get("/healthz").json()["status"] == "ok"
    for _ in range(3):
        post(client, "/rank", {"user": "stranger"})
    health = client.get("/healthz")
    assert health.status_code == 200
    assert health.json()["status"] == "degraded"
    assert any(reason.startswith("user: 100%") for reason in health.json()["reasons"])
    text = client.get("/metrics").text
    assert 'onehull_requests_total{route="/rank",status="200"} 3.0' in text
    assert 'onehull_feature_unseen_share{feature="user"} 1.0' in text
    assert 'onehull_feature_missing_share{feature="interest"} 1.0' in text
    assert 'onehull_rank_stage_seconds_bucket{le="0.0005",stage="score"}' in text
    assert 'onehull_task_mean_score{task="click"}' in text


def test_event_kinds_of_clients_cannot_fill_the_metrics(client):
    for kind in ("click", "a1", "a2"):
        assert post(client, "/events", {"event": kind, "impression": "x"}).status_code == 202
    text = client.get("/metrics").text
    assert 'onehull_events_total{event="other"} 2.0' in text
    assert "a1" not in text


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ({"k": 3}, "user", "is required"),
        ({"user": "u1", "usr": 1}, "usr", "is not a known field"),
        ({"user": None}, "user", "must be an id: text or a number"),
        ({"user": ""}, "user", "must not be empty"),
        ({"user": "u1", "k": 0}, "k", "must be greater than or equal to 1"),
        ({"user": "u1", "k": "3"}, "k", "must be a valid integer"),
        ({"user": "u1", "weights": {"like.times": 1e7}}, "weights.like.times", "must lie between -1e+06 and 1e+06"),
        ({"user": "u1", "weights": {"like.times": True}}, "weights.like.times", "must be a number"),
        ({"user": "u1", "candidates": ["i1", [2]]}, "candidates.1", "must be an id: text or a number"),
        ({"user": "u1", "context": {"hour_of_day": [3]}}, "context.hour_of_day", "must be one value"),
        ({"user": "u1", "context": {"temperature": 10**400}}, "context.temperature", "must be a number between"),
        ([1], "", "must be a JSON object"),
    ],
)
def test_a_request_that_breaks_a_rule_is_told_which(client, body, field, rule):
    response = post(client, "/rank", body)
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["field"] == field
    assert error["rule"].startswith(rule)


def test_two_faults_are_both_told_and_the_remedy_names_the_field_that_was_meant(client):
    response = post(client, "/rank", {"user": "u1", "k": -1, "contxt": {}})
    assert [error["field"] for error in response.json()["errors"]] == ["k", "contxt"]
    assert "Did you mean 'context'?" in response.json()["errors"][1]["remedy"]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"event": "click"}, "impression"),
        ({"event": "impression", "impression": "x"}, "event"),
        ({"event": "cl ick", "impression": "x"}, "event"),
        ({"event": "watch", "impression": "x", "value": "12"}, "value"),
        ({"event": "watch", "impression": "x", "vlaue": 12}, "vlaue"),
        ({"event": "watch", "impression": "x", "time": "yesterday"}, "time"),
        ({"event": "watch", "impression": "x", "time": 1e300}, "time"),
        ({"event": "watch", "impression": "x", "time": later(days=1)}, "time"),
        ({"event": "watch", "impression": "x", "time": 0}, "time"),
    ],
)
def test_feedback_that_breaks_a_rule_is_refused_whole(client, tmp_path, read_log, event, field):
    response = post(client, "/events", [{"event": "click", "impression": "ok"}, event])
    assert response.status_code == 422
    assert response.json()["error"]["field"] == f"1.{field}"
    assert read_log(tmp_path / "events", "feedback") == []


@pytest.mark.parametrize("body", [[], [{"event": "click", "impression": "x"}] * 1001])
def test_a_list_of_events_has_bounds(client, body):
    assert post(client, "/events", body).status_code == 422


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"", "must be JSON"),
        (b"{", "must be JSON"),
        (b"\xff\xfe", "must be UTF-8"),
        (b'{"user": NaN}', "must be JSON, which has no such number"),
        (b'{"user": "u", "context": {"temperature": -Infinity}}', "must be JSON, which has no such number"),
        (b'{"user": "u", "context": {"temperature": 1e999}}', "must hold numbers that a float64 can hold"),
        (b'{"user": "u", "user": "v"}', "must name each key once"),
        (b'{"user": "\\ud800"}', "must not hold half of a surrogate pair"),
        (b"[" * 100_000, "must not be nested that deep"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "must not be nested that deep"),
        (b'{"user": ' + b"9" * 5000 + b"}", "must not hold an integer of thousands of digits"),
    ],
)
def test_bytes_that_are_not_json_get_400(client, body, rule):
    response = post(client, "/rank", body)
    assert response.status_code == 400
    assert response.json()["error"]["rule"].startswith(rule)


def test_the_other_statuses(client):
    assert client.post("/rank", content="{}", headers={"content-type": "text/plain"}).status_code == 415
    assert post(client, "/rank", b" " * (2 << 20)).status_code == 413
    assert client.get("/rank").status_code == 405
    assert client.get("/rank").headers["allow"] == "POST"
    assert client.delete("/users").status_code == 405
    assert client.get("/users?limit=9999").status_code == 422
    for path in ("/nope", "/page/../app.py", "/page/..%2f..%2fapp.py", "/page/", "/page/%00", "/rank/"):
        response = client.get(path)
        assert (path, response.status_code) == (path, 404)
        assert response.json()["error"]["rule"] == "no such path"


def test_the_page_loads_nothing_that_is_not_its_own(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text
    script = client.get("/page/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert client.get("/page/app.js", headers={"if-none-match": script.headers["etag"]}).status_code == 304


def test_a_full_disk_refuses_feedback_and_stops_no_feed(client, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    refused = post(client, "/events", {"event": "click", "impression": "x"})
    assert refused.status_code == 503
    assert "No space left on device" in refused.json()["error"]["rule"]
    ranked = post(client, "/rank", {"user": "u1"})
    assert ranked.status_code == 200
    assert any("event log" in note for note in ranked.json()["notes"])
    assert client.get("/healthz").json()["status"] == "degraded"
    monkeypatch.undo()
    assert post(client, "/events", {"event": "click", "impression": "x"}).status_code == 202
    assert client.get("/healthz").json()["status"] == "ok"


def test_without_an_event_log_feedback_is_refused(make_service, client_of):
    with client_of(application(make_service(events=None))) as client:
        assert post(client, "/events", {"event": "click", "impression": "x"}).status_code == 503
        assert post(client, "/rank", {"user": "u1"}).json()["items"][0]["impression"] is None


def test_an_error_of_ours_is_a_500_that_tells_nothing_of_the_inside(make_service, client_of):
    def broken(_inputs):
        raise RuntimeError("the scorer knows a secret")

    with client_of(application(make_service(broken))) as client:
        response = post(client, "/rank", {"user": "u1"})
        assert response.status_code == 500
        assert "secret" not in response.text
        assert response.headers["x-content-type-options"] == "nosniff"
        assert 'onehull_errors_total{kind="internal"} 1.0' in client.get("/metrics").text


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from(["u1", "i1", "click", "like.times", 10**400, -1e308, "\x00", "2026-01-01", 1e9])
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
rank_like = st.fixed_dictionaries(
    {"user": leaves},
    optional={
        "context": st.dictionaries(st.sampled_from(["hour_of_day", "temperature", "position", "x"]), trees) | trees,
        "candidates": st.lists(leaves | st.just("i3"), max_size=8) | trees,
        "k": leaves,
        "offset": leaves,
        "weights": st.dictionaries(st.sampled_from(["like.times", "click.power", "watch.power"]), leaves) | trees,
        "formula": st.text("clikewatsh()+-*/^0123456789. ", max_size=30) | trees,
        "log": leaves,
        "other": trees,
    },
)
event_like = st.fixed_dictionaries(
    {"event": st.just("click") | leaves, "impression": leaves}, optional={"time": leaves, "value": leaves, "id": leaves}
)
bodies = (
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | (trees | rank_like | event_like | st.lists(event_like, max_size=3)).map(lambda tree: json.dumps(tree).encode())
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(["/rank", "/events"]), body=bodies)
def test_nothing_a_client_sends_gives_a_500(client, path, body):
    response = post(client, path, body)
    assert response.status_code in {200, 202, 400, 413, 422}
    response.json()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(max_size=20), limit=leaves)
def test_no_search_gives_a_500(client, query, limit):
    response = client.get("/users", params={"q": query.encode("utf-8", "replace").decode(), "limit": repr(limit)})
    assert response.status_code in {200, 422}


def test_two_services_cannot_write_one_log(make_service, tmp_path):
    from onehull.errors import ArtifactError

    make_service()
    with pytest.raises(ArtifactError, match="another ranking service"):
        EventLog(tmp_path / "events")
