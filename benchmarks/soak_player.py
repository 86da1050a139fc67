"""Plays a simulated world into Kafka, a day a minute, as an app would: at least once.

A process of `benchmarks.soak`, which kills it. What the broker has acknowledged is noted in a file; one that is started
again goes on with what is not in it, also with what the broker may have without having said so. So that such a
repetition can be told from one that the pipeline makes, every message bears the number of its line and of its process.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

SPEED = 1440.0
"""Seconds of the world in one of ours."""
_TIME = re.compile(r'"time": "(about )?([^"]+)Z"')
_ID = re.compile(r'"(?:impression|id)": "(i\d+|lost\d+)"')
_PATIENCE_SECONDS = 60


class Told(NamedTuple):
    """A line on its way.

    Attributes:
        due: when it is sent, seconds since 1970.
        key: its impression.
        text: with the time of our days.
        whole: whether it can be read.
    """

    due: float
    key: str
    text: str
    whole: bool


def played(world: Path, begin: float) -> list[Told]:
    """The world's lines in the order in which they are delivered.

    Args:
        world: directory of a simulated world.
        begin: when its first day begins, seconds since 1970.
    """
    lines = [told for name in ("impressions", "feedback") for told in _of_files(sorted(world.glob(f"{name}-*")), begin)]
    return sorted(lines, key=lambda told: told.due)


def _of_files(files: list[Path], begin: float) -> Iterator[Told]:
    start = datetime.fromisoformat(files[0].stem[-10:]).replace(tzinfo=UTC).timestamp()
    due = begin
    for file in files:
        for told in file.read_text(encoding="utf-8").splitlines():
            line, found = told, _TIME.search(told)
            if found is not None:
                moment = datetime.fromisoformat(found[2]).replace(tzinfo=UTC).timestamp()
                now = begin + (moment - start) / SPEED
                due = max(due, now)
                ours = datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds")
                line = told.replace(found[0], f'"time": "{found[1] or ""}{ours}"')
            key = _ID.search(line)
            whole = found is not None and found[1] is None and line.endswith("}")
            yield Told(due, key[1] if key is not None else "", line, whole)


def acknowledged(notes: Path) -> list[str]:
    """What the broker has acknowledged: ``LINE.PROCESS``, with an ``x`` behind it where the line cannot be read."""
    return notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []


def play(server: str, topic: str, world: Path, notes: Path, begin: float) -> None:
    """Sends what has not been acknowledged, each line when it is due, until SIGTERM."""
    from confluent_kafka import Producer

    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    done = {int(tag.partition(".")[0]) for tag in acknowledged(notes)}
    file = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    producer = Producer({"bootstrap.servers": server, "enable.idempotence": True, "linger.ms": 20, "log_level": 0,
                         "reconnect.backoff.max.ms": 500})  # fmt: skip
    for number, told in enumerate(played(world, begin)):
        if number in done:
            continue
        while (early := told.due - time.time()) > 0 and not stopped.is_set():
            producer.poll(min(early, 0.05))
        if stopped.is_set():
            break
        tag = f"{number}.{os.getpid()}"
        line = f'{told.text[:-1]}, "delivery": {json.dumps(tag)}}}' if told.whole else told.text
        producer.produce(topic, line.encode(), told.key, on_delivery=_noting(file, tag, whole=told.whole))
        producer.poll(0)
    if producer.flush(_PATIENCE_SECONDS):
        raise SystemExit("Kafka did not take every event")


def _noting(file: int, tag: str, *, whole: bool) -> Any:
    def note(error: Any, _: Any) -> None:
        if error is None:
            os.write(file, f"{tag}{'' if whole else 'x'}\n".encode())

    return note


if __name__ == "__main__":
    play(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), float(sys.argv[5]))
