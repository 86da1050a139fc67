"""Kafka to segments: are events lost or doubled when readers are killed, and how fast does one process read?

``kills``: several producers write a topic while several processes of ``onehull ingest`` read it. These are killed with
SIGKILL at random moments, every second one as soon as a segment is being built, and started again. When the producers
are done and the readers have caught up, every event is looked for by its number.

``rate``: a topic that is full already is read to its end by one process: decoding, checking, and bringing segments to
the disk. The time that Kafka takes to let a process join its group is told apart. ``one_key`` is the same with one key
for all events, so that they are one partition.

Needs Java 17 and, the first time, Maven: `scripts/kafka/run` starts Apache Kafka itself.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from tests.kafka_broker import ROOT, KafkaBroker

from benchmarks.harness import finish, pairs, parser, place
from onehull.streams.ingest import Roll
from onehull.streams.kafka import KafkaIngest, KafkaTopics
from onehull.streams.metrics import IngestMetrics
from onehull.streams.segments import EVENTS_FILE

PARTITIONS, PRODUCERS, READERS = 8, 3, 3
EVENTS = {"fast": 1_000_000, "full": 2_000_000}
KILLS = {"fast": 24, "full": 60}
ROUNDS = {"fast": 3, "full": 5}
SECONDS_A_KILL = 1.6
SECONDS_A_RESTART = 0.8
PATIENCE_SECONDS = 120
PAGE = ROOT / "docs" / "how-to" / "ingest-from-kafka.md"
READER = ("--segment-seconds", "0.3", "--set", "session.timeout.ms=1500", "--set", "heartbeat.interval.ms=300")
"""Killed members are missed soon, and segments are written all the time."""
SHOWN = {
    "events": ("events", "{:,}"),
    "kills": ("readers killed", "{:,}"),
    "kills_while_writing": ("of them while a segment was being built", "{:,}"),
    "kills_while_producing": ("while events were still being produced", "{:,}"),
    "lost": ("events lost", "{:,}"),
    "duplicated": ("events doubled", "{:,}"),
    "events_per_second": ("events a second, one process, group joined meanwhile", "{:,.0f}"),
    "events_per_second_joined": ("events a second, from the time it had joined", "{:,.0f}"),
    "megabytes_per_second": ("MB a second, likewise", "{:,.0f}"),
    "one_key_events_per_second": ("events a second, all with one key", "{:,.0f}"),
}


@dataclass
class Killed:
    """What was done to the readers.

    Attributes:
        kills: how many were killed.
        writing: while they were building a segment.
        flowing: while events were still being produced.
        seconds: until everything had been read.
        found: how often each event is in the segments.
    """

    kills: int = 0
    writing: int = 0
    flowing: int = 0
    seconds: float = 0.0
    found: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


class _Number(msgspec.Struct):
    number: int


def produce(server: str, topic: str, numbers: range, seconds: float, key: str | None) -> None:
    """Writes events, evenly over some seconds; each is acknowledged by the broker."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": server, "enable.idempotence": True, "linger.ms": 20})
    faults: list[Any] = []
    begun = time.monotonic()
    for done, number in enumerate(numbers):
        line = event(number)
        producer.produce(topic, line, key or str(number), on_delivery=lambda error, _: faults.append(error))
        if done % 500 == 0:
            producer.poll(0)
            if len(producer) > 50_000:
                producer.flush()
            time.sleep(max(0.0, begun + seconds * done / len(numbers) - time.monotonic()))
    if producer.flush(PATIENCE_SECONDS) or any(faults):
        raise RuntimeError(f"Kafka did not take every event: {set(faults)}")


def event(number: int) -> bytes:
    """An impression or a click, as the ranking service writes them."""
    moment = f"2026-01-{1 + number % 28:02d}T12:00:00.123Z"
    if number % 10:
        context = {"hour_of_day": number % 24, "device": "phone", "position": number % 20}
        event = {"event": "impression", "id": f"{number:032x}", "time": moment, "user": f"u{number % 9973}",
                 "item": f"i{number % 4999}", "context": context, "score": 0.123456789}  # fmt: skip
    else:
        event = {"event": "click", "id": f"c{number}", "time": moment, "impression": f"{number:032x}"}
    return json.dumps({**event, "number": number}, separators=(",", ":")).encode()


def fill(broker: KafkaBroker, topic: str, events: int, seconds: float = 0.0, key: str | None = None) -> list[Any]:
    """Starts the producers."""
    share = -(-events // PRODUCERS)
    parts = [range(begin, min(events, begin + share)) for begin in range(0, events, share)]
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=produce, args=(broker.address, topic, part, seconds, key)) for part in parts]
    for worker in workers:
        worker.start()
    return workers


def ended(workers: list[Any]) -> None:
    """Waits for the producers.

    Raises:
        RuntimeError: one failed.
    """
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise RuntimeError("a producer failed")


def make_topic(broker: KafkaBroker, name: str) -> str:
    """A topic."""
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(30)
    return name


def start_reader(broker: KafkaBroker, topic: str, out: Path, log: Path) -> subprocess.Popen[bytes]:
    """``onehull ingest``."""
    command = [
        sys.executable,
        "-m",
        "onehull",
        "ingest",
        str(out),
        "--kafka",
        broker.address,
        "--topic",
        topic,
        *READER,
    ]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)  # noqa: S603


def kills(broker: KafkaBroker, directory: Path, events: int, wanted: int, draw: random.Random) -> Killed:
    """Reads while readers are killed."""
    topic, out, log = make_topic(broker, "kills"), directory / "kills", directory / "kills.log"
    result, begun = Killed(), time.monotonic()
    readers = [start_reader(broker, topic, out, log) for _ in range(READERS)]
    workers = fill(broker, topic, events, wanted * (SECONDS_A_KILL + SECONDS_A_RESTART))
    while result.kills < wanted:
        time.sleep(draw.uniform(0, 2 * SECONDS_A_KILL))
        victim = draw.randrange(READERS)
        if result.kills % 2:
            victim = wait_for_builder(out, [reader.pid for reader in readers], victim)
            time.sleep(draw.uniform(0, 0.003))
        if readers[victim].poll() is not None:
            raise RuntimeError(f"a reader ended by itself:\n{log.read_text()[-3000:]}")
        readers[victim].send_signal(signal.SIGKILL)
        readers[victim].wait()
        result.kills += 1
        result.flowing += any(worker.is_alive() for worker in workers)
        result.writing += readers[victim].pid in building(out)
        readers[victim] = start_reader(broker, topic, out, log)
    ended(workers)
    wait_until_read(out, events)
    result.seconds = time.monotonic() - begun
    for reader in readers:
        reader.send_signal(signal.SIGTERM)
    for reader in readers:
        reader.wait()
    result.found = numbers_of(out, events)
    return result


def building(out: Path) -> list[int]:
    """Processes that are building a segment, or were killed over it."""
    return [int(path.name.split("-")[1]) for path in out.glob("*/*/.building-*")]


def wait_for_builder(out: Path, readers: list[int], otherwise: int, seconds: float = 3.0) -> int:
    """Waits until one of the readers begins to build a segment, and says which."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for process in building(out):
            if process in readers:
                return readers.index(process)
    return otherwise


def wait_until_read(out: Path, events: int) -> None:
    """Waits until there are as many events as were produced, or no more come for a while."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end and sum(_count(path) for path in out.glob("*/*/[0-9]*/segment.json")) < events:
        time.sleep(0.5)


def _count(books: Path) -> int:
    found = re.search(rb'"events": (\d+)', books.read_bytes())
    return int(found.group(1)) if found is not None else 0


def numbers_of(out: Path, events: int) -> np.ndarray:
    """How often each event is in the segments."""
    decode = msgspec.json.Decoder(_Number).decode
    found = [
        np.fromiter((decode(line).number for line in path.read_bytes().splitlines()), np.int64)
        for path in out.glob(f"*/*/[0-9]*/{EVENTS_FILE}")
    ]
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *found]), minlength=events)


def read_once(address: str, topic: str, out: Path, group: str) -> dict[str, float]:
    """Reads a topic to its end and says how long it took."""
    metrics = IngestMetrics()
    joined: list[float] = []

    def look() -> bool:
        if metrics.partitions and not joined:
            joined.append(time.perf_counter())
        return False

    begun = time.perf_counter()
    topics = KafkaTopics(address, [topic], group=group, stop_at_end=True)
    KafkaIngest(topics, out, roll=Roll(), metrics=metrics).run(look)
    done = time.perf_counter()
    return {"events": metrics.events, "seconds": done - begun, "joined_seconds": done - joined[0]}


def rates(broker: KafkaBroker, directory: Path, topic: str, rounds: int, events: int) -> dict[str, float]:
    """Medians of several readings, each in a process of its own."""
    found = []
    for number in range(rounds):
        out = directory / f"{topic}-{number}"
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found.append(pool.apply(read_once, (broker.address, topic, out, f"{topic}-{number}")))
    counts = numbers_of(out, events)
    if not np.all(counts == 1):
        raise RuntimeError(f"{topic}: {np.sum(counts == 0)} lost, {np.sum(counts > 1)} doubled")
    written = sum(path.stat().st_size for path in out.glob(f"*/*/[0-9]*/{EVENTS_FILE}"))
    seconds = statistics.median(one["joined_seconds"] for one in found)
    return {
        "events_per_second": events / statistics.median(one["seconds"] for one in found),
        "events_per_second_joined": events / seconds,
        "megabytes_per_second": written / seconds / 1e6,
        "slowest_events_per_second": events / max(one["seconds"] for one in found),
    }


def main() -> None:
    """Kills readers, then measures one."""
    options = parser(__doc__)
    options.add_argument("--seed", type=int, default=None, help="of the moments. Default: another one each time")
    options.add_argument("--docs", action="store_true", help="also put the table into the documentation")
    arguments = options.parse_args()
    profile = arguments.profile
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**31)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        broker = KafkaBroker(directory / "kafka")
        broker.start()
        try:
            result = {"profile": profile, "seed": seed, **measure(broker, directory, profile, seed)}
        finally:
            broker.kill()
    if arguments.docs:
        place(PAGE, "ingest", markdown(result))
    rows = [[name, value] for name, value in _figures(result)]
    finish("Apache Kafka → segments", ["", ""], rows, result, arguments.save)


def measure(broker: KafkaBroker, directory: Path, profile: str, seed: int) -> dict[str, Any]:
    """All figures."""
    events, rounds = EVENTS[profile], ROUNDS[profile]
    killed = kills(broker, directory, events, KILLS[profile], random.Random(seed))  # noqa: S311  moments, no secrets
    print(f"{killed.kills} kills, {killed.seconds:.0f} s", file=sys.stderr)
    for topic, key in (("spread", None), ("one-key", "the one")):
        ended(fill(broker, make_topic(broker, topic), events, key=key))
    one_key = rates(broker, directory, "one-key", rounds, events)
    return {
        "kafka": _kafka_version(),
        "events": int(events),
        "producers": PRODUCERS,
        "readers": READERS,
        "partitions": PARTITIONS,
        "kills": killed.kills,
        "kills_while_writing": killed.writing,
        "kills_while_producing": killed.flowing,
        "lost": int(np.sum(killed.found == 0)),
        "duplicated": int(np.sum(np.maximum(killed.found - 1, 0))),
        "seconds_with_kills": round(killed.seconds, 1),
        **{key: round(value, 1) for key, value in rates(broker, directory, "spread", rounds, events).items()},
        **{f"one_key_{key}": round(value, 1) for key, value in one_key.items()},
    }


def _kafka_version() -> str:
    text = (ROOT / "scripts" / "kafka" / "pom.xml").read_text(encoding="utf-8")
    found = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([^<]+)<", text)
    return found.group(1) if found is not None else "unknown"


def markdown(result: Mapping[str, Any]) -> str:
    """The table of the documentation."""
    return pairs(_figures(result))


def _figures(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, form.format(result[key])) for key, (name, form) in SHOWN.items()]


if __name__ == "__main__":
    main()
