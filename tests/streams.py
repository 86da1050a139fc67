"""What tests of brokers share: numbered events, processes that ingest them, what must hold of their segments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from onehull.streams.segments import SegmentBooks, SegmentChain, read_books

PATIENCE_SECONDS = 90
QUICK = ("--set", "session.timeout.ms=1500", "--set", "heartbeat.interval.ms=300", "--segment-seconds", "0.2",
         "--set", "reconnect.backoff.max.ms=500")  # fmt: skip
"""Members of the group that are killed are missed soon."""


def event(number: int, **more: object) -> bytes:
    """One event."""
    line = {"event": "click", "impression": f"x{number}", "time": 1_700_000_000 + number, "id": number, **more}
    return json.dumps(line).encode()


def start_ingest(out: Path, *options: str, before: str = "") -> subprocess.Popen[str]:
    """``onehull ingest``, as a process; `before` is Python that runs first."""
    code = f"{before}\nimport sys\nfrom onehull.cli import main\nmain()"
    command = [sys.executable, "-c", code, "ingest", str(out), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "COLUMNS": "200"}
    )


def told(process: subprocess.Popen[str], status: int | None = 0) -> str:
    """What a process said, when it has ended; `status` is what it must have ended with."""
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert status is None or process.returncode == status, said
    return said


def until(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"it does not hold after {seconds} seconds"
        time.sleep(0.02)


def lines(out: Path, name: str = "events.jsonl") -> list[dict]:
    """Events, or another file's entries, of all segments."""
    found = []
    for path in sorted(out.glob(f"*/*/[0-9]*/{name}")):
        content = path.read_bytes()
        assert content == b"" or content.endswith(b"\n")
        found += [json.loads(line) for line in content.splitlines()]
    return found


def ids(out: Path) -> Counter[int]:
    """How often each event is there."""
    return Counter(line["id"] for line in lines(out))


def once(numbers: Iterable[int]) -> Counter[int]:
    """What `ids` is when all is well."""
    return Counter(numbers)


def books_of(out: Path) -> dict[str, list[SegmentBooks]]:
    """Books of each chain, which must be consecutive from 0 on and agree with the files."""
    found = {}
    for directory in sorted(out.glob("*/*")):
        place, books = 0, []
        for segment in SegmentChain(directory).segments():
            one = read_books(segment)
            assert (int(segment.name), one.first) == (place, place)
            refused = _lines_in(segment / "quarantine.jsonl")
            assert (one.events, sum(one.quarantined.values())) == (_lines_in(segment / "events.jsonl"), refused)
            assert one.next - one.first == one.events + refused + one.absent
            place = one.next
            books.append(one)
        assert not list(directory.glob(".*")), "something half-built was left"
        found[str(directory.relative_to(out))] = books
    return found


def _lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def produce(settings: Mapping[str, str], topic: str, messages: Sequence[bytes | None], key: str | None = None) -> None:
    """Gives Kafka messages, each acknowledged."""
    from confluent_kafka import Producer

    faults = []
    producer = Producer({"acks": "all", "linger.ms": 5, "message.max.bytes": 80_000_000, **settings})
    for message in messages:
        producer.produce(topic, message, key, on_delivery=lambda error, _: faults.append(error) if error else None)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert faults == []


def make_topic(
    settings: Mapping[str, str], name: str, partitions: int = 1, config: dict[str, str] | None = None
) -> str:
    """A topic of Kafka."""
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"log_level": 0, **settings})
    for done in admin.create_topics([NewTopic(name, partitions, 1, config=config or {})]).values():
        done.result(30)
    until(lambda: name in admin.list_topics(timeout=10).topics)
    return name
