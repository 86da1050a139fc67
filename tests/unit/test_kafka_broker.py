"""The script that starts Apache Kafka, on which the tests of everything that speaks to it stand."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.kafka_broker import ROOT, KafkaBroker, require_kafka

MESSAGES = [f"event {number}".encode() for number in range(1000)]


@pytest.fixture
def broker(tmp_path):
    require_kafka()
    broker = KafkaBroker(tmp_path / "kafka")
    broker.start()
    yield broker
    broker.kill()


def produce(broker, messages):
    """Writes messages, each of them acknowledged by the broker."""
    from confluent_kafka import Producer

    refused = []
    producer = Producer({"bootstrap.servers": broker.address, "acks": "all"})
    for message in messages:
        producer.produce("events", message, on_delivery=lambda error, _: refused.append(error) if error else None)
    assert producer.flush(30) == 0
    assert refused == []


def consume(broker, count):
    """Reads the topic from its start."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition("events", 0, OFFSET_BEGINNING)])
    found: list[bytes | None] = []
    end = time.monotonic() + 60
    while len(found) < count and time.monotonic() < end:
        found += [message.value() for message in consumer.consume(count, timeout=1) if message.error() is None]
    consumer.close()
    return found


@pytest.mark.slow
def test_a_broker_that_is_killed_and_started_again_has_every_message(broker):
    produce(broker, MESSAGES)
    broker.kill()
    broker.start()
    assert consume(broker, len(MESSAGES)) == MESSAGES


def test_help_shows_an_example():
    done = subprocess.run([ROOT / "scripts" / "kafka" / "run", "--help"], capture_output=True, text=True, check=True)
    assert "scripts/kafka/run runs/kafka" in done.stdout


def test_without_a_directory_it_says_how_it_is_called():
    done = subprocess.run([ROOT / "scripts" / "kafka" / "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout.startswith("usage:")
