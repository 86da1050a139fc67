"""Google Pub/Sub to segments and back, with Google's emulator."""

from __future__ import annotations

import random
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from typer.testing import CliRunner

from onehull.cli.app import build_app
from onehull.errors import ArtifactError, BrokerError
from onehull.pipeline.launch import free_ports
from onehull.serve import event_broker
from onehull.serve.app import application
from onehull.serve.event_broker import open_events
from onehull.streams.admission import Limits
from onehull.streams.draft import Draft
from onehull.streams.ingest import Roll
from onehull.streams.metrics import IngestMetrics
from onehull.streams.pubsub import PubSubIngest, PubSubSubscription
from onehull.streams.pubsub_sink import PubSubSink
from onehull.streams.recent import RecentIds
from onehull.streams.segments import SegmentBooks, SegmentChain
from onehull.streams.sinks import Message
from tests.pubsub_emulator import PROJECT, PubSubEmulator
from tests.streams import books_of, event, ids, lines, once, start_ingest, told, until

SHORT_LEASE = """
from onehull.streams import pubsub
pubsub._LEASE_SECONDS = 2
"""
KILLED_BEFORE_IT_ACKNOWLEDGES = """
import os, signal
pubsub.PubSubIngest._acknowledge = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""
OPTIONS = ("--pubsub", PROJECT, "--segment-seconds", "0.2", "--subscription")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    emulator = PubSubEmulator(tmp_path_factory.mktemp("pubsub") / "log")
    emulator.start()
    yield emulator
    emulator.kill()


@pytest.fixture(autouse=True)
def _spoken_to(request, monkeypatch):
    if "emulator" in request.fixturenames:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", request.getfixturevalue("emulator").address)


@pytest.fixture(scope="module")
def names():
    return (f"events-{number}" for number in count())


@pytest.fixture
def name(emulator, names):
    return make_topic(next(names))


def make_topic(name):
    """A topic and a subscription to it, of the same name."""
    from google.cloud import pubsub_v1

    with pubsub_v1.SubscriberClient() as subscriber:
        publisher = pubsub_v1.PublisherClient()
        topic = publisher.topic_path(PROJECT, name)
        publisher.create_topic(name=topic)
        subscriber.create_subscription(name=subscriber.subscription_path(PROJECT, name), topic=topic)
        publisher.stop()
        publisher.transport.close()
    return name


def publish(name, messages):
    sink = PubSubSink(PROJECT, 20)
    sink.send(name, [Message(message, "") for message in messages])
    sink.close()


def ingest(name, out, wanted, **more):
    """Reads in this process until so many messages are durable."""
    metrics = more.pop("metrics", None) or IngestMetrics()
    source = PubSubSubscription(PROJECT, name, quarantine=more.pop("quarantine", None))
    reader = PubSubIngest(source, out, roll=Roll(seconds=0.1), metrics=metrics, **more)
    end = time.monotonic() + 60
    reader.run(lambda: metrics.events + metrics.refused >= wanted or time.monotonic() > end)
    return metrics


def test_each_message_is_a_line_and_its_id_is_kept(name, tmp_path):
    publish(name, [event(number) for number in range(2500)])
    ingest(name, tmp_path, 2500)
    assert ids(tmp_path) == once(range(2500))
    (chain,) = books_of(tmp_path).values()
    assert sum(books.events for books in chain) == 2500
    kept = [line for path in tmp_path.glob("*/0/*/ids.txt") for line in path.read_text().splitlines()]
    assert len(set(kept)) == len(kept) == 2500


def test_what_was_durable_but_not_acknowledged_counts_once(name, tmp_path):
    publish(name, [event(number) for number in range(100)])
    killed = start_ingest(tmp_path, *OPTIONS, name, before=SHORT_LEASE + KILLED_BEFORE_IT_ACKNOWLEDGES)
    told(killed, -signal.SIGKILL)
    assert len(ids(tmp_path)) > 0
    publish(name, [event(number) for number in range(100, 150)])
    metrics = IngestMetrics()
    source = PubSubSubscription(PROJECT, name)
    reader = PubSubIngest(source, tmp_path, roll=Roll(seconds=0.1), metrics=metrics)
    end = time.monotonic() + 60
    again = "onehull_ingest_repeated_total"
    reader.run(lambda: (again in metrics.text() and len(ids(tmp_path)) == 150) or time.monotonic() > end)
    assert f'{again}{{source="{name}/0"}} ' in metrics.text()
    assert ids(tmp_path) == once(range(150))
    books_of(tmp_path)


def test_processes_that_share_a_subscription_and_die_count_each_message_once(name, tmp_path):
    draw = random.Random()

    def work():
        for begin in range(0, 2000, 100):
            publish(name, [event(number) for number in range(begin, begin + 100)])
            time.sleep(0.2)

    producing = threading.Thread(target=work)
    producing.start()
    readers = [start_ingest(tmp_path, *OPTIONS, name, before=SHORT_LEASE) for _ in range(2)]
    while producing.is_alive():
        time.sleep(draw.uniform(1.2, 2.5))
        place = draw.randrange(2)
        readers[place].kill()
        readers[place].communicate()
        readers[place] = start_ingest(tmp_path, *OPTIONS, name, before=SHORT_LEASE)
    producing.join()
    until(lambda: sum(ids(tmp_path).values()) >= 2000)
    time.sleep(1)
    for reader in readers:
        reader.send_signal(signal.SIGTERM)
    assert "Traceback" not in "".join(told(reader, None) for reader in readers)
    assert ids(tmp_path) == once(range(2000))
    books_of(tmp_path)


def test_one_that_slept_drops_what_another_has_made_durable(name, tmp_path):
    publish(name, [event(number) for number in range(50)])
    slow = ("--segment-seconds", "3.5")
    sleeper = start_ingest(tmp_path, *OPTIONS, name, *slow, before=SHORT_LEASE)
    until(lambda: len(ids(tmp_path)) == 50)
    publish(name, [event(number) for number in range(50, 100)])
    time.sleep(0.7)  # it holds them, in memory
    sleeper.send_signal(signal.SIGSTOP)
    ingest(name, tmp_path, 50)
    sleeper.send_signal(signal.SIGCONT)
    publish(name, [event(number) for number in range(100, 150)])
    until(lambda: len(ids(tmp_path)) == 150)
    sleeper.send_signal(signal.SIGTERM)
    assert "another process added" in told(sleeper)
    assert ids(tmp_path) == once(range(150))
    books_of(tmp_path)


def test_poison_goes_to_the_file_and_to_the_topic(name, names, tmp_path):
    poisoned = make_topic(next(names))
    publish(name, [event(0), b"{", event(1, text="x" * 2000), b'{"event":"click","time":"2999-01-01T00:00:00Z"}'])
    ingest(name, tmp_path / "in", 4, limits=Limits(max_bytes=1000), quarantine=poisoned)
    assert ids(tmp_path / "in") == once([0])
    entries = lines(tmp_path / "in", "quarantine.jsonl")
    assert [entry["reason"] for entry in entries] == ["malformed", "too_big", "from_future"]
    ingest(poisoned, tmp_path / "poison", 3)  # which are no events either
    sent = [entry["raw"] for entry in lines(tmp_path / "poison", "quarantine.jsonl")]
    assert sorted(raw.partition('"reason"')[0] for raw in sent) == [
        f'{{"source":"{name}/0","place":{place},' for place in (1, 2, 3)
    ]


def test_what_cannot_be_read_is_named(name, tmp_path, monkeypatch):
    failed = start_ingest(tmp_path, *OPTIONS, name + "-absent")
    assert f"subscriptions/{name}-absent cannot be read: 404" in told(failed, 1)
    with pytest.raises(BrokerError, match="topics/none-such is absent"):
        PubSubIngest(PubSubSubscription(PROJECT, name, quarantine="none-such"), tmp_path)
    (port,) = free_ports(1)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{port}")
    reader = PubSubIngest(PubSubSubscription(PROJECT, name), tmp_path)
    with pytest.raises(BrokerError, match=r"cannot be read: 503 .* PUBSUB_EMULATOR_HOST"):
        reader.run(lambda: False)


def test_options_that_do_not_go_together(tmp_path):
    for options in ((), ("--kafka", "h:1"), (*OPTIONS, "s", "--stop-at-end"), (*OPTIONS, "s", "--kafka", "h:1")):
        done = CliRunner(env={"COLUMNS": "200"}).invoke(build_app(), ["ingest", str(tmp_path), *options])
        assert (done.exit_code, "name either a broker and its topics" in done.output) == (2, True)


def test_the_service_hands_its_events_to_pubsub_and_the_loop_closes(
    tmp_path, names, make_service, client_of, monkeypatch
):
    monkeypatch.setattr(event_broker, "WAIT_SECONDS", 1.0)
    own = PubSubEmulator(tmp_path / "log")  # it is killed
    own.start()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", own.address)
    try:
        name = make_topic(next(names))
        service = make_service(events=None)
        service.log = open_events(f"pubsub://{PROJECT}/{name}", lambda: service.metrics.error("impression_lost"))
        with client_of(application(service)) as client:
            items = client.post("/rank", json={"user": "u1", "k": 2}).json()["items"]
            click = {"event": "click", "impression": items[0]["impression"], "id": "e1"}
            assert client.post("/events", json=click).status_code == 202
            ingest(name, tmp_path / "segments", 3)
            own.kill()
            assert client.post("/events", json=click).status_code == 503
            assert any(reason.startswith("event log: ") for reason in client.get("/healthz").json()["reasons"])
            own.start()
            make_topic(name)
            until(lambda: client.post("/events", json=click).status_code == 202)
    finally:
        own.kill()
    found = lines(tmp_path / "segments")
    assert {line["id"] for line in found} == {"e1", *(item["impression"] for item in items)}


def segment(chain, first, written, ids):
    draft = Draft("events/0", first, first)
    draft.lines, draft.next = [b"{}"] * len(ids), first + len(ids)
    books: SegmentBooks = draft.books().model_copy(update={"written": written})
    chain.append(books, {"events.jsonl": (b"{}\n" * len(ids),), "ids.txt": ("\n".join(ids).encode(),)})
    return books


def test_ids_are_known_for_a_window_before_the_last_segment(tmp_path):
    chain, noon = SegmentChain(tmp_path / "events" / "0"), datetime(2026, 1, 5, 12, tzinfo=UTC)
    segment(chain, 0, noon - timedelta(hours=30), ["a", "b"])
    segment(chain, 2, noon - timedelta(hours=3), ["c"])
    segment(chain, 3, noon, ["d"])
    recent = RecentIds(chain, timedelta(hours=24))
    recent.refresh()
    assert [name in recent for name in "abcd"] == [False, False, True, True]
    recent.add(segment(chain, 4, noon + timedelta(hours=22), ["e"]), ["e"])
    assert [name in recent for name in "cde"] == [False, True, True]
    segment(chain, 5, noon + timedelta(hours=23), ["f"])
    assert "f" not in recent
    recent.refresh()
    assert "f" in recent
    assert recent.last is not None
    assert recent.last.next == 6
    (chain.directory / f"{5:020d}" / "ids.txt").unlink()
    with pytest.raises(ArtifactError, match=r"ids\.txt cannot be read"):
        RecentIds(chain, timedelta(hours=24)).refresh()
