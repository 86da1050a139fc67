"""Apache Kafka to segments, with Kafka itself: each event once, whatever is killed, and whenever."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
import urllib.request
from itertools import count

import pytest

from onehull.errors import ArtifactError, BrokerError, SpecError
from onehull.pipeline.launch import free_ports
from onehull.streams import kafka_places
from onehull.streams.admission import Limits
from onehull.streams.ingest import Roll
from onehull.streams.kafka import KafkaIngest, KafkaTopics
from onehull.streams.metrics import IngestMetrics
from onehull.streams.segments import SegmentChain
from tests.kafka_broker import KafkaBroker, require_kafka
from tests.streams import (
    QUICK,
    books_of,
    event,
    ids,
    lines,
    make_topic,
    once,
    produce,
    start_ingest,
    told,
    until,
)

FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    require_kafka()
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka") / "broker")
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="module")
def names():
    return (f"topic-{number}" for number in count())


@pytest.fixture
def client(broker):
    return {"bootstrap.servers": broker.address}


@pytest.fixture
def topic(client, names):
    return make_topic(client, next(names), partitions=3)


@pytest.fixture
def small(client, names):
    """A topic of one partition."""
    return make_topic(client, next(names))


def read_all(broker, topic, out, *, notes=None, limits=None, metrics=None, **more):
    """Ingests a topic to its end, in this process."""
    topics = KafkaTopics(broker.address, [topic], group=f"{topic}-readers", stop_at_end=True, **more)
    reader = KafkaIngest(topics, out, limits=limits, metrics=metrics, note=(notes if notes is not None else []).append)
    reader.run(lambda: False)


def options(broker, topic, *more):
    return ("--kafka", broker.address, "--topic", topic, "--group", topic, *QUICK, *more)


def keep_producing(client, topic, numbers, seconds):
    """Events that arrive one after the other for some seconds."""

    def work():
        pause = seconds / (len(numbers) / 50)
        for begin in range(0, len(numbers), 50):
            produce(client, topic, [event(number) for number in numbers[begin : begin + 50]])
            time.sleep(pause)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def stop(*processes):
    for process in processes:
        process.send_signal(signal.SIGTERM)
    said = [told(process, None) for process in processes]
    # One that has only just begun knows no better than to end at once.
    assert {process.returncode for process in processes} <= {0, -signal.SIGTERM}, said
    return said


def test_readers_that_are_killed_lose_nothing_and_double_nothing(broker, client, topic, tmp_path):
    draw = random.Random()
    producing = keep_producing(client, topic, range(3000), seconds=5)
    readers = [start_ingest(tmp_path, *options(broker, topic)) for _ in range(2)]
    while producing.is_alive():
        time.sleep(draw.uniform(0.5, 1.5))
        place = draw.randrange(2)
        readers[place].kill()
        readers[place].communicate()
        readers[place] = start_ingest(tmp_path, *options(broker, topic))
    producing.join()
    until(lambda: sum(ids(tmp_path).values()) >= 3000)
    stop(*readers)
    assert ids(tmp_path) == once(range(3000))
    assert sum(books.events for chain in books_of(tmp_path).values() for books in chain) == 3000


def test_processes_that_join_leave_and_die_share_the_partitions(broker, client, topic, tmp_path):
    producing = keep_producing(client, topic, range(2000), seconds=5)
    first, second = (start_ingest(tmp_path, *options(broker, topic)) for _ in range(2))
    until(lambda: len(ids(tmp_path)) > 100)
    third = start_ingest(tmp_path, *options(broker, topic))
    time.sleep(1.5)
    stop(first)
    second.kill()
    second.communicate()
    producing.join()
    until(lambda: sum(ids(tmp_path).values()) >= 2000)
    stop(third)
    assert ids(tmp_path) == once(range(2000))
    books_of(tmp_path)


def test_a_process_that_slept_is_overtaken_and_goes_on_behind(broker, client, small, tmp_path):
    produce(client, small, [event(number) for number in range(100)])
    slow = options(broker, small, "--segment-seconds", "1.5")
    sleeper = start_ingest(tmp_path, *slow)
    until(lambda: len(ids(tmp_path)) == 100)
    produce(client, small, [event(number) for number in range(100, 200)])
    time.sleep(0.5)  # it holds them, in memory
    sleeper.send_signal(signal.SIGSTOP)
    other = start_ingest(tmp_path, *options(broker, small))
    until(lambda: len(ids(tmp_path)) == 200)
    produce(client, small, [event(number) for number in range(200, 300)])
    sleeper.send_signal(signal.SIGCONT)
    until(lambda: len(ids(tmp_path)) == 300)
    stop(other)
    produce(client, small, [event(number) for number in range(300, 400)])
    until(lambda: len(ids(tmp_path)) == 400)
    stop(sleeper)
    assert ids(tmp_path) == once(range(400))
    books_of(tmp_path)


def test_what_another_process_makes_durable_meanwhile_is_no_topic_made_anew(
    broker, client, small, tmp_path, monkeypatch
):
    produce(client, small, [event(number) for number in range(100)])
    read_all(broker, small, tmp_path)
    last, asked = SegmentChain.last, []

    def last_when_another_has_gone_on(chain):
        asked.append(chain)
        if len(asked) == 2:  # the first one is for the clock
            produce(client, small, [event(number) for number in range(100, 150)])
            topics = KafkaTopics(broker.address, [small], group=f"{small}-others", stop_at_end=True)
            KafkaIngest(topics, tmp_path).run(lambda: False)
        return last(chain)

    monkeypatch.setattr(SegmentChain, "last", last_when_another_has_gone_on)
    read_all(broker, small, tmp_path)
    assert ids(tmp_path) == once(range(150))


def test_two_groups_at_one_directory_hold_each_event_once(broker, client, topic, tmp_path):
    """Every stretch has two who believe to own it."""
    metrics = [IngestMetrics(), IngestMetrics()]
    ended = threading.Event()

    def read(number):
        topics = KafkaTopics(broker.address, [topic], group=f"{topic}-{number}")
        KafkaIngest(topics, tmp_path, roll=Roll(seconds=0.05), metrics=metrics[number]).run(ended.is_set)

    readers = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for reader in readers:
        reader.start()
    keep_producing(client, topic, range(2000), seconds=4).join()
    until(lambda: sum(ids(tmp_path).values()) >= 2000)
    ended.set()
    for reader in readers:
        reader.join()
    assert ids(tmp_path) == once(range(2000))
    assert sum(one.events for one in metrics) == 2000
    assert "overtaken_total{" in "".join(one.text() for one in metrics)
    books_of(tmp_path)


POISON = {
    "empty": None,
    "too_big": event(1, text="x" * 2000),
    "malformed": b"\xff\xfe",
    "wrong_type": b'{"event":"click"}',
    "time_out_of_range": b'{"event":"click","time":1700000000000000}',
    "from_future": b'{"event":"click","time":"2999-01-01T00:00:00Z"}',
}


def test_poison_goes_to_the_file_and_to_the_topic_with_the_reason(broker, client, names, small, tmp_path):
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    poisoned = make_topic(client, next(names))
    produce(client, small, [event(0), *POISON.values(), event(1)])
    metrics = IngestMetrics()
    limits = Limits(max_bytes=1000)
    read_all(broker, small, tmp_path, quarantine=poisoned, limits=limits, metrics=metrics)
    assert ids(tmp_path) == once([0, 1])
    in_file = lines(tmp_path, "quarantine.jsonl")
    assert [entry["reason"] for entry in in_file] == list(POISON)
    assert [entry["place"] for entry in in_file] == list(range(1, 7))
    assert (metrics.events, metrics.refused) == (2, 6)
    consumer = Consumer({**client, "group.id": "look"})
    consumer.assign([TopicPartition(poisoned, 0, OFFSET_BEGINNING)])
    sent = consumer.consume(6, timeout=30)
    consumer.close()
    assert [json.loads(message.value() or b"") for message in sent] == in_file
    assert [json.loads(message.value() or b"")["reason"] for message in sent] == list(POISON)
    assert sent[0].headers() == [("reason", b"empty"), ("detail", b"a message must hold one JSON object")]
    assert sent[0].key() == f"{small}/0/1".encode()


def test_a_broker_that_is_killed_in_the_middle_and_comes_back(broker, client, topic, tmp_path):
    produce(client, topic, [event(number) for number in range(500)])
    reader = start_ingest(tmp_path, *options(broker, topic))
    until(lambda: len(ids(tmp_path)) == 500)
    broker.kill()
    time.sleep(1)
    broker.start()
    produce(client, topic, [event(number) for number in range(500, 1000)])
    until(lambda: len(ids(tmp_path)) == 1000)
    (said,) = stop(reader)
    assert ids(tmp_path) == once(range(1000))
    complaints = [line for line in said.splitlines() if "tried again" in line]
    assert 1 <= len(complaints) <= 6, said  # a client without a broker says so some times a second


AWAY_AT_ASSIGNMENT = """
import time
from pathlib import Path
from onehull.streams.kafka_places import KafkaPlaces
ask = KafkaPlaces.drafts
def drafts(places, parts):
    Path({assigned!r}).touch()
    while not Path({killed!r}).exists():
        time.sleep(0.02)
    return ask(places, parts)
KafkaPlaces.drafts = drafts
"""


@pytest.mark.slow
def test_a_reader_ends_soon_though_the_broker_went_as_it_was_given_partitions(broker, client, topic, tmp_path):
    produce(client, topic, [event(number) for number in range(100)])
    assigned, killed = tmp_path / "assigned", tmp_path / "killed"
    before = AWAY_AT_ASSIGNMENT.format(assigned=str(assigned), killed=str(killed))
    reader = start_ingest(tmp_path / "out", *options(broker, topic), before=before)
    until(assigned.exists)
    broker.kill()
    try:
        killed.touch()
        time.sleep(1)
        asked = time.monotonic()
        (said,) = stop(reader)
        assert time.monotonic() - asked < 30, said
        assert reader.returncode == 0, said
    finally:
        broker.start()
    read_all(broker, topic, tmp_path / "out")
    assert ids(tmp_path / "out") == once(range(100))


LATCH = """
from pathlib import Path
from onehull.streams.draft import Draft
add, held = Draft.add, []
def note(draft, *message):
    add(draft, *message)
    held.append(1)
    Path({at!r}, f"holds-{{len(held)}}").touch()
Draft.add = note
"""


@pytest.mark.slow
def test_a_reader_that_was_overtaken_ends_soon_though_the_broker_is_away(broker, client, small, tmp_path):
    produce(client, small, [event(number) for number in range(100)])
    patient = ("--set", "session.timeout.ms=45000", "--segment-seconds", "1000")
    sleeper = start_ingest(tmp_path / "out", *options(broker, small, *patient), before=LATCH.format(at=str(tmp_path)))
    until((tmp_path / "holds-100").exists)
    sleeper.send_signal(signal.SIGSTOP)
    other = start_ingest(tmp_path / "out", *options(broker, small, "--group", "others"))
    until(lambda: len(ids(tmp_path / "out")) == 100)
    stop(other)
    broker.kill()
    try:
        sleeper.send_signal(signal.SIGTERM)
        sleeper.send_signal(signal.SIGCONT)
        asked = time.monotonic()
        said = told(sleeper)
        assert time.monotonic() - asked < 30, said
        assert "another process added to" in said
    finally:
        broker.start()
    assert ids(tmp_path / "out") == once(range(100))


def test_a_broker_that_is_down_at_the_start_is_named(tmp_path, monkeypatch):
    pytest.importorskip("confluent_kafka")
    monkeypatch.setattr(kafka_places, "_ANSWER_SECONDS", 1)
    (port,) = free_ports(1)
    with pytest.raises(BrokerError, match=rf"no Kafka broker answers at 127\.0\.0\.1:{port}: .* Start it, or correct"):
        KafkaIngest(KafkaTopics(f"127.0.0.1:{port}", ["events"]), tmp_path)


def test_a_topic_that_is_absent_is_named_with_those_that_are_there(broker, small, tmp_path):
    failed = start_ingest(tmp_path, *options(broker, small + "s"))
    assert f"has no topic '{small}s'." in (said := told(failed, 1))
    assert f"Did you mean '{small}'?" in said
    with pytest.raises(BrokerError, match="has no topic 'absent'"):
        KafkaIngest(KafkaTopics(broker.address, [small], quarantine="absent"), tmp_path)


@pytest.mark.parametrize("messages", [50, 200])
def test_a_topic_that_was_made_anew_is_not_read_behind_the_old_one(broker, client, names, tmp_path, messages):
    name = make_topic(client, next(names))
    produce(client, name, [event(number) for number in range(100)])
    read_all(broker, name, tmp_path)
    delete_topic(client, name)
    make_topic(client, name)
    produce(client, name, [event(number) for number in range(1000, 1000 + messages)])
    with pytest.raises(BrokerError, match=f"{name} was made anew: .* Read it into another directory"):
        read_all(broker, name, tmp_path)
    read_all(broker, name, tmp_path / "new")
    assert ids(tmp_path / "new") == once(range(1000, 1000 + messages))
    assert ids(tmp_path) == once(range(100))


def test_a_topic_that_is_made_anew_under_a_reader_ends_it(broker, client, names, tmp_path):
    name = make_topic(client, next(names))
    produce(client, name, [event(number) for number in range(100)])
    reader = start_ingest(tmp_path, *options(broker, name, "--set", "topic.metadata.refresh.interval.ms=500"))
    until(lambda: len(ids(tmp_path)) == 100)
    delete_topic(client, name)
    make_topic(client, name)
    produce(client, name, [event(number) for number in range(1000, 1300)])
    said = told(reader, 1)
    assert "was made anew" in said or "was deleted" in said
    assert ids(tmp_path) == once(range(100))


def test_what_was_read_of_a_topic_that_is_deleted_is_durable(broker, client, names, tmp_path):
    name = make_topic(client, next(names))
    produce(client, name, [event(number) for number in range(100)])
    metrics = IngestMetrics()
    reader = KafkaIngest(KafkaTopics(broker.address, [name], group=name), tmp_path, metrics=metrics)
    deleted: list[bool] = []

    def look():
        if f'lag{{source="{name}/0"}} 0.0' in metrics.text() and not deleted:
            delete_topic(client, name)
            deleted.append(True)
        return False

    with pytest.raises(BrokerError, match="The topic was deleted; create it again"):
        reader.run(look)
    assert ids(tmp_path) == once(range(100))


def delete_topic(client, name):
    from confluent_kafka.admin import AdminClient

    admin = AdminClient(client)
    for done in admin.delete_topics([name]).values():
        done.result(30)
    until(lambda: name not in admin.list_topics(timeout=10).topics)


def delete_records(client, name, before):
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    admin = AdminClient(client)
    for done in admin.delete_records([TopicPartition(name, 0, before)]).values():
        done.result(30)


def test_messages_that_were_deleted_before_they_were_read_are_counted_and_told(broker, client, small, tmp_path):
    produce(client, small, [event(number) for number in range(100)])
    read_all(broker, small, tmp_path)
    produce(client, small, [event(number) for number in range(100, 200)])
    delete_records(client, small, 150)
    notes: list[str] = []
    read_all(broker, small, tmp_path, notes=notes)
    assert ids(tmp_path) == once([*range(100), *range(150, 200)])
    assert f"50 messages of {small}/0 (100 to 149) were deleted by the broker before they were read" in notes
    (chain,) = books_of(tmp_path).values()
    assert [books.absent for books in chain] == [0, 50]


def test_a_topic_whose_beginning_is_gone_is_read_from_what_is_left(broker, client, small, tmp_path):
    produce(client, small, [event(number) for number in range(100)])
    delete_records(client, small, 40)
    notes: list[str] = []
    read_all(broker, small, tmp_path, notes=notes)
    read_all(broker, small, tmp_path, notes=notes)
    assert ids(tmp_path) == once(range(40, 100))
    assert notes == []
    books_of(tmp_path)


def test_latest_means_the_same_place_for_the_next_process(broker, client, small, tmp_path):
    produce(client, small, [event(number) for number in range(100)])
    read_all(broker, small, tmp_path, start="latest")
    produce(client, small, [event(number) for number in range(100, 150)])
    read_all(broker, small, tmp_path, start="latest")
    assert ids(tmp_path) == once(range(100, 150))
    books_of(tmp_path)


def test_a_full_disk_ends_it_with_words_and_the_next_one_goes_on(broker, client, small, tmp_path):
    produce(client, small, [event(number) for number in range(50)])
    read_all(broker, small, tmp_path)
    produce(client, small, [event(number) for number in range(50, 1000)])
    failed = start_ingest(
        tmp_path, *options(broker, small, "--segment-seconds", "60", "--stop-at-end"), before=FULL_DISK
    )
    assert "cannot be written: File too large. Remedy that and start again" in told(failed, 1)
    assert ids(tmp_path) == once(range(50))
    read_all(broker, small, tmp_path)
    assert ids(tmp_path) == once(range(1000))
    books_of(tmp_path)


def test_an_event_of_50_mb(broker, client, names, tmp_path):
    name = make_topic(client, next(names), config={"max.message.bytes": "60000000"})
    produce(client, name, [event(0), event(1, text="x" * 50_000_000), event(2)])
    read_all(broker, name, tmp_path / "refused")
    assert ids(tmp_path / "refused") == once([0, 2])
    (entry,) = lines(tmp_path / "refused", "quarantine.jsonl")
    assert (entry["reason"], len(entry["raw"]) < 1000) == ("too_big", True)
    read_all(broker, name, tmp_path / "taken", limits=Limits(max_bytes=60_000_000))
    assert ids(tmp_path / "taken") == once([0, 1, 2])


def test_a_schema_that_gains_and_loses_a_field_and_pretty_printed_events(broker, client, small, tmp_path):
    messages = [
        event(0),
        event(1, new={"nested": [1, None]}),
        json.dumps({"id": 2, "event": "like", "time": "2024-01-01T00:00:00Z"}, indent=2).encode(),
    ]
    produce(client, small, messages)
    read_all(broker, small, tmp_path)
    assert lines(tmp_path) == [json.loads(message) for message in messages]
    (books,) = books_of(tmp_path)[f"{small}/0"]
    assert books.kinds == {"click": 2, "like": 1}


def test_all_events_with_one_key_are_one_partition_in_order(broker, client, topic, tmp_path):
    produce(client, topic, [event(number) for number in range(20_000)], key="one")
    read_all(broker, topic, tmp_path)
    assert [line["id"] for line in lines(tmp_path)] == list(range(20_000))
    assert sum(bool(sum(one.events for one in chain)) for chain in books_of(tmp_path).values()) == 1


def test_what_was_read_is_durable_after_sigterm_and_lag_is_told_over_http(broker, client, small, tmp_path):
    produce(client, small, [event(number) for number in range(100)])
    (port,) = free_ports(1)
    more = ("--segment-seconds", "1000", "--metrics-port", str(port))
    reader = start_ingest(tmp_path, *options(broker, small, *more))

    def metrics():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    until(lambda: port_answers(port) and f'onehull_ingest_lag{{source="{small}/0"}} 0.0' in metrics())
    assert "onehull_ingest_partitions 1.0" in metrics()
    assert not ids(tmp_path)
    (said,) = stop(reader)
    assert "100 events" in said
    assert ids(tmp_path) == once(range(100))


def port_answers(port):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).close()
    except OSError:
        return False
    return True


def test_damaged_books_stop_the_partition(broker, client, small, tmp_path):
    produce(client, small, [event(0)])
    read_all(broker, small, tmp_path)
    (books,) = tmp_path.glob("*/*/*/segment.json")
    books.write_text("{}")
    with pytest.raises(ArtifactError, match=r"segment\.json cannot be read"):
        read_all(broker, small, tmp_path)


def test_settings_reach_the_client(tmp_path):
    pytest.importorskip("confluent_kafka")
    tls = {"security.protocol": "SSL", "ssl.ca.location": str(tmp_path / "absent.pem")}
    with pytest.raises(SpecError, match=r"ssl\.ca\.location"):
        KafkaIngest(KafkaTopics("127.0.0.1:9", ["events"], settings=tls), tmp_path)
    with pytest.raises(SpecError, match="No such configuration property"):
        KafkaIngest(KafkaTopics("127.0.0.1:9", ["events"], settings={"sasl.pasword": "x"}), tmp_path)


def test_a_broker_that_speaks_tls_and_wants_a_password(tmp_path, monkeypatch):
    require_kafka()
    guarded = KafkaBroker(tmp_path / "kafka", login="reader:right", tls=True)
    guarded.start()
    try:
        client = {"bootstrap.servers": guarded.address, **guarded.settings}
        make_topic(client, "events")
        produce(client, "events", [event(0)])
        read_all(guarded, "events", tmp_path / "out", settings=guarded.settings)
        assert ids(tmp_path / "out") == once([0])
        monkeypatch.setattr(kafka_places, "_ANSWER_SECONDS", 3)
        wrong = {**guarded.settings, "sasl.password": "wrong"}
        with pytest.raises(BrokerError, match=r"[Aa]uthentication") as caught:
            read_all(guarded, "events", tmp_path / "none", settings=wrong)
        assert "wrong" not in str(caught.value)
        untrusted = {name: value for name, value in guarded.settings.items() if name != "ssl.ca.location"}
        with pytest.raises(BrokerError, match="certificate verify failed"):
            read_all(guarded, "events", tmp_path / "none", settings=untrusted)
    finally:
        guarded.kill()
