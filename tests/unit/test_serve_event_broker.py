"""The service hands its events to Kafka itself; what arrives is what was sent, and the loop closes."""

from __future__ import annotations

import json

import polars as pl
import pytest

from onehull.errors import ArtifactError, BrokerError, SpecError
from onehull.events import assemble
from onehull.pipeline.launch import free_ports
from onehull.serve import event_broker
from onehull.serve.app import application
from onehull.serve.event_broker import open_events
from onehull.spec import load_spec
from onehull.streams.kafka import KafkaIngest, KafkaTopics
from onehull.streams.kafka_sink import KafkaSink
from onehull.streams.segments import EVENTS_GLOB
from onehull.streams.sinks import Message
from tests.kafka_broker import KafkaBroker, require_kafka
from tests.streams import books_of, lines, make_topic, produce, until


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    require_kafka()
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka") / "broker")
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def client_config(broker):
    return {"bootstrap.servers": broker.address}


@pytest.fixture
def serving(make_service, client_of, monkeypatch):
    """Opens a service whose events go to a place."""
    monkeypatch.setattr(event_broker, "WAIT_SECONDS", 1.0)
    opened = []

    def open_at(place, **settings):
        service = make_service(events=None)
        quick = {"reconnect.backoff.max.ms": "200", **settings}
        service.log = open_events(place, lambda: service.metrics.error("impression_lost"), quick)
        opened.append(service)
        return client_of(application(service))

    return open_at


def post(client, path, body):
    return client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})


def click(impression, number=0):
    return {"event": "click", "impression": impression, "id": f"e{number}"}


def ingested(broker, out, *topics):
    """Everything that the topics hold."""
    KafkaIngest(KafkaTopics(broker.address, topics, stop_at_end=True, group=out.name), out).run(lambda: False)
    books_of(out)
    return in_order(lines(out))


def in_order(found):
    return sorted(found, key=lambda line: (line["event"], line["id"]))


def log_faults(client):
    """What the health of the service says of its event log."""
    health = client.get("/healthz").json()
    faults = [reason for reason in health["reasons"] if reason.startswith("event log: ")]
    assert health["status"] == "degraded" or not faults
    return faults


def test_what_is_ingested_is_what_a_directory_would_hold(
    broker, client_config, serving, make_service, client_of, read_log, tmp_path
):
    make_topic(client_config, "both", partitions=3)
    body = {"user": "ü1", "context": {"hour_of_day": 20}, "k": 3}
    with serving(f"kafka://{broker.address}/both") as client:
        items = post(client, "/rank", body).json()["items"]
        sent = [click(items[0]["impression"]), {**click(items[1]["impression"], 1), "event": "watch", "value": 12.5}]
        assert post(client, "/events", sent).status_code == 202
    found = ingested(broker, tmp_path / "segments", "both")
    with client_of(application(make_service())) as client:
        other = post(client, "/rank", body).json()["items"]
        again = [{**one, "impression": item["impression"]} for one, item in zip(sent, other, strict=False)]
        assert post(client, "/events", again).status_code == 202
    in_files = [*read_log(tmp_path / "events", "feedback"), *read_log(tmp_path / "events", "impressions")]
    assert [list(line) for line in found] == [list(line) for line in in_order(in_files)]
    shown = [line for line in found if line["event"] == "impression"]
    assert {(line["id"], line["item"]) for line in shown} == {(item["impression"], item["id"]) for item in items}
    assert [line["impression"] for line in found if line["event"] != "impression"] == [
        one["impression"] for one in sent
    ]


def test_assembly_reads_the_segments_and_the_loop_closes(broker, client_config, serving, tables, tmp_path):
    """Among them one that only says where reading began, and one that holds nothing but poison."""
    make_topic(client_config, "loop")
    produce(client_config, "loop", [b"before anybody read"])
    out = tmp_path / "data"
    KafkaIngest(KafkaTopics(broker.address, ["loop"], start="latest", stop_at_end=True), out).run(lambda: False)
    produce(client_config, "loop", [b"poison"])
    ingested(broker, out, "loop")
    with serving(f"kafka://{broker.address}/loop") as client:
        items = post(client, "/rank", {"user": "u1", "context": {"hour_of_day": 20}, "k": 4}).json()["items"]
        assert post(client, "/events", click(items[2]["impression"])).status_code == 202
    ingested(broker, out, "loop")
    document, users, catalogue = tables
    users.rename({"id": "user", "x.interest": "interest", "x.age": "age"}).write_parquet(out / "users.parquet")
    columns = {"id": "item", "x.category": "category", "x.tags": "tags", "x.duration": "duration"}
    catalogue.rename(columns).with_columns(pl.lit("x").alias("title")).write_parquet(out / "items.parquet")
    data = {
        "events": {"impressions": EVENTS_GLOB, "feedback": EVENTS_GLOB, "complete_until": "2999-01-01T00:00:00Z"},
        "tables": {name: {"path": f"{name}s.parquet", "key": name} for name in ("user", "item")},
        "split": {"by": "random", "validation": 0.3, "test": 0.3},
    }
    features = {name: feature for name, feature in document["features"].items() if name != "temperature"}
    assemble(load_spec({**document, "features": features, "data": data}), out, tmp_path / "samples")
    samples = pl.read_parquet(tmp_path / "samples" / "samples.parquet").sort("sample")
    assert samples["item"].to_list() == [item["id"] for item in items]
    assert samples["y.click"].to_list() == [0.0, 0.0, 1.0, 0.0]


@pytest.mark.slow
def test_a_broker_that_dies_answers_503_and_loses_nothing_that_was_accepted(broker, client_config, serving, tmp_path):
    make_topic(client_config, "shown")
    make_topic(client_config, "came")
    impressions: list[str] = []
    accepted: list[str] = []

    def rank(client):
        answer = post(client, "/rank", {"user": "u1", "k": 2})
        assert answer.status_code == 200
        impressions.extend(item["impression"] for item in answer.json()["items"])

    def feedback(client, number):
        answer = post(client, "/events", click(impressions[0], number))
        accepted.extend([f"e{number}"] if answer.status_code == 202 else [])
        return answer

    with serving(f"kafka://{broker.address}/shown,came") as client:
        rank(client)
        assert feedback(client, 0).status_code == 202
        assert log_faults(client) == []
        broker.kill()
        refused = feedback(client, 1)
        assert refused.status_code == 503
        assert "the event log cannot be written: " in refused.json()["error"]["rule"]
        assert refused.json()["error"]["remedy"] == "Send it again later."
        rank(client)
        assert log_faults(client)
        broker.start()
        until(lambda: feedback(client, 1).status_code == 202)
        until(lambda: log_faults(client) == [])
        assert "impression_lost" not in client.get("/metrics").text
    found = ingested(broker, tmp_path / "segments", "shown", "came")
    assert sorted(line["id"] for line in found if line["event"] == "impression") == sorted(impressions)
    # What was refused may be there all the same; by its id it counts once.
    assert {line["id"] for line in found if line["event"] == "click"} == set(accepted) == {"e0", "e1"}


@pytest.mark.slow
def test_a_service_starts_without_its_broker_and_says_so(serving, tmp_path):
    require_kafka()
    late = KafkaBroker(tmp_path / "kafka")
    with serving(f"kafka://{late.address}/events") as client:
        assert post(client, "/rank", {"user": "u1", "k": 1}).status_code == 200
        (fault,) = log_faults(client)
        assert f"no Kafka broker answers at {late.address}" in fault
        late.start()
        try:
            until(lambda: post(client, "/events", click("x")).status_code == 202)
            until(lambda: log_faults(client) == [])
            until(lambda: len(ingested(late, tmp_path / "segments", "events")) == 2)
        finally:
            late.kill()


def test_a_topic_that_is_absent_is_named(broker, client_config):
    make_topic(client_config, "feedback")
    with pytest.raises(BrokerError, match=r"has no topic 'feedbak'.*Did you mean 'feedback'"):
        open_events(f"kafka://{broker.address}/feedback,feedbak", lambda: None)


@pytest.mark.parametrize(
    "place", ["kafka://h:1", "kafka:///t", "kafka://u:secret@h:1/t", "http://h/t", "pubsub://p/a/b"]
)
def test_what_is_no_place_is_refused_without_being_repeated(place):
    with pytest.raises(SpecError, match="--events must be a directory, kafka://HOST:PORT/TOPIC") as caught:
        open_events(place, lambda: None)
    assert "secret" not in str(caught.value)


def test_a_directory_is_still_a_place(tmp_path):
    open_events(str(tmp_path / "events"), lambda: None).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError):
        open_events(tmp_path / "file" / "events", lambda: None)


def test_messages_that_nobody_takes_are_told_and_those_too_many_are_refused():
    pytest.importorskip("confluent_kafka")
    (port,) = free_ports(1)
    lost: list[str] = []
    few = {"queue.buffering.max.messages": "5"}
    sink = KafkaSink(f"127.0.0.1:{port}", few, 0.5, lost.append)
    for number in range(5):
        sink.post("events", Message(b"{}", str(number)))
    with pytest.raises(BrokerError, match="too many messages wait for"):
        sink.post("events", Message(b"{}", "5"))
    with pytest.raises(BrokerError, match="5 messages were not taken: Local: Message timed out"):
        sink.settle()
    assert len(lost) == 5
    assert sink.fault is not None
    sink.settle()  # what was told once is told
    with pytest.raises(BrokerError, match="timed out"):
        sink.send("events", [Message(b"{}", "6")])
    sink.close()
