"""Everything at once, and everything killed: a world is played into Kafka; do the books balance at the end?

Processes, each of them killed with SIGKILL at random moments and started again, the broker included: Apache Kafka; a
player, which sends a simulated world, a day a minute; two of ``onehull ingest``; ``onehull assemble --follow``;
``onehull run`` again and again, which trains on what has been assembled and exports a version of the bundle;
``onehull serve`` of the latest version, whose events go to the same topic. A client, which keeps books and is not
killed, asks for feeds and sends feedback. At the end the inflow stops, everything is read, and it is counted:

- every place of every partition is in one segment, in one of its counts;
- every message that the broker acknowledged to the player, and every feedback that the service answered with 202, is in
  the segments exactly once, and nothing else more than once;
- assembly accounts for every line of the segments, and there is one sample for each impression among them;
- what was served came back into samples. Impressions wait in the service's memory until the broker has them, so that
  those of the seconds before its kill may be lost; others must not be.

Needs Java 17 and, the first time, Maven: `scripts/kafka/run` starts Apache Kafka itself.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.kafka_broker import ROOT, KafkaBroker
from tests.streams import make_topic

from benchmarks.harness import finish, pairs, parser, place
from benchmarks.soak_books import Books, balance, places_read
from benchmarks.soak_client import Client
from benchmarks.soak_processes import Process, Repeated
from onehull.pipeline.launch import free_ports
from onehull.streams.segments import EVENTS_GLOB
from onehull.world import simulate

PAGE = ROOT / "docs" / "explanation" / "survival.md"
MINUTES = {"fast": 3.0, "full": 10.0}
USERS, ITEMS = 1500, 400
TOPIC, PARTITIONS, NAME = "events", 4, "soak"
EVENTS = f"segments/{EVENTS_GLOB}"
FIRST_SECONDS = 15.0
"""How long the players play before anybody trains."""
PATIENCE_SECONDS = 120.0
SHOWN = {
    "acknowledged": "messages acknowledged: by the broker to the player, by the service to its client",
    "ingested": "messages in segments",
    "quarantined": "of them broken, and in the quarantine",
    "lost": "lost",
    "duplicated": "doubled",
    "samples": "samples",
    "versions": "versions of the bundle, trained beside it",
    "served": "impressions served",
    "served_back_in_samples": "of them back in samples",
    "served_lost_with_a_kill": "of them lost in the memory of a killed service",
    "feedback_taken": "feedback taken by the service",
}
QUICK = ("--set", "session.timeout.ms=3000", "--set", "heartbeat.interval.ms=500", "--segment-seconds", "1",
         "--set", "reconnect.backoff.max.ms=500")  # fmt: skip
"""Killed members of the group are missed soon."""
# A day of the world is a minute here: a purchase comes after ten seconds, in the mean.
TASKS: dict[str, Any] = {
    "click": {"kind": "binary", "event": "click", "window": "5s"},
    "purchase": {"kind": "binary", "event": "purchase", "window": "60s"},
}
SPEC: dict[str, Any] = {
    "name": NAME,
    "data": {
        # As long as the broker and its clients may need to come back.
        "events": {"impressions": EVENTS, "feedback": EVENTS, "lateness": "60s"},
        "tables": {"user": {"path": "users.jsonl", "key": "user"}, "item": {"path": "items.jsonl", "key": "item"}},
        "split": {"by": "random", "validation": 0.1, "test": 0.1},
    },
    "features": {
        "user_id": {"kind": "categorical", "column": "user"},
        "age_group": {"kind": "categorical"},
        "item_id": {"kind": "categorical", "column": "item"},
        "category": {"kind": "categorical"},
        "sells": {"kind": "categorical"},
        "hour": {"kind": "categorical"},
        "position": {"kind": "categorical", "min_count": 1},
    },
    "tasks": TASKS,
    "model": {"embedding_dim": 8, "bottom": [32], "tower": [16]},
    "training": {"batch_size": 1024, "epochs": 1, "tensorboard": False, "deterministic": False, "jit_compile": False,
                 "precision": "float32"},
    "fusion": {"formula": "click + 20 * purchase"},
    "serving": {"display": {"title": "title"}},
}  # fmt: skip


class Soak:
    """The processes and what is counted.

    Args:
        directory: for everything.
        minutes: from the first event to the last.
        seed: of the world and of the moments.
    """

    def __init__(self, directory: Path, minutes: float, seed: int) -> None:
        self.directory, self.minutes = directory, minutes
        self.draw = random.Random(seed)  # noqa: S311  moments, no secrets
        self.kills: Counter[str] = Counter()
        self.data, self.out, self.world = directory / "data", directory / "out", directory / "world"
        self.notes, self.spec = directory / "acknowledged.txt", directory / "spec.json"
        simulate(self.world, users=USERS, items=ITEMS, days=int(minutes) + 3, seed=seed)
        self.data.mkdir()
        for name in ("users.jsonl", "items.jsonl"):
            (self.world / name).rename(self.data / name)
        self.spec.write_text(json.dumps(SPEC), encoding="utf-8")
        self.broker = KafkaBroker(directory / "kafka")
        self.broker.start()
        make_topic({"bootstrap.servers": self.broker.address}, TOPIC, PARTITIONS)
        self.port = free_ports(1)[0]
        self.client = Client(self.port, USERS, seed)
        self._make_processes()

    def _make_processes(self) -> None:
        out = ("--out", str(self.out))
        address, begin = self.broker.address, str(time.time() + 2.0)
        player = [sys.executable, "-m", "benchmarks.soak_player", address, TOPIC, str(self.world), str(self.notes)]
        self.player = self._process("player", [*player, begin])
        ingest = onehull("ingest", str(self.data / "segments"), "--kafka", address, "--topic", TOPIC, *QUICK)
        self.ingests = [self._process(f"ingest {number}", ingest) for number in (1, 2)]
        follow = onehull("assemble", str(self.spec), "--data", str(self.data), *out, "--follow")
        self.follower = self._process("assemble", follow)
        run = onehull("run", str(self.spec), "--data", str(self.data), *out)
        self.run = Repeated(self._process("run", run))
        bundle, events = str(self.out / "bundle" / NAME), f"kafka://{address}/{TOPIC}"
        serve = onehull("serve", bundle, "--port", str(self.port), "--events", events)
        self.server = self._process("serve", serve)

    def _process(self, name: str, command: list[str]) -> Process:
        return Process(name, command, ROOT, self.directory / f"{name.replace(' ', '-')}.log")

    def play(self) -> None:
        """Starts everything, kills everything, until the time is over."""
        begun = time.monotonic()
        for process in (self.player, *self.ingests):
            process.start()
        wait_until(lambda: any(self.data.glob(EVENTS)), "a segment is written")
        self.follower.start()
        wait_until(lambda: any(self.out.glob("stream/[0-9]*")), "an epoch is assembled", self.follower.tail)
        time.sleep(FIRST_SECONDS)
        self.run.start()
        wait_until(lambda: self.run.done > 0, "a first version of the bundle is exported", self.run.tail)
        self.server.start()
        self.client.start()
        wait_until(lambda: self.client.served, "a feed is served", self.server.tail)
        self._kill_all(begun + 60.0 * self.minutes)

    def _kill_all(self, end: float) -> None:
        """Kills one process after the other, in an order and at moments that are drawn, until the time is over."""
        victims = self._round()
        pause = min(15.0, max(0.0, end - time.monotonic()) / len(victims))
        while victims or time.monotonic() < end:
            victims = victims or self._round()
            time.sleep(self.draw.uniform(0.2, 1.8) * pause)
            name = victims.pop()
            self._kill(name)
            self.kills[name] += 1
            print(f"{time.strftime('%H:%M:%S')} killed {name}: {self.state()}", file=sys.stderr, flush=True)
            self._look()

    def _round(self) -> list[str]:
        names = ["broker", "run", *(process.name for process in self._processes)]
        self.draw.shuffle(names)
        return names

    @property
    def _processes(self) -> list[Process]:
        return [self.player, *self.ingests, self.follower, self.server]

    def _kill(self, name: str) -> None:
        if name == "broker":
            self.broker.kill()
            time.sleep(self.draw.uniform(0.0, 3.0))
            self.broker.start()
            return
        if name == "run":
            self.run.kill()
            return
        process = next(process for process in self._processes if process.name == name)
        process.kill()
        if name == "serve":
            self.client.note_kill()
        process.start()

    def _look(self) -> None:
        """Starts again what has ended by itself, as whatever runs services would."""
        for process in self._processes:
            process.revive()

    def state(self) -> str:
        """How far it has come."""
        return f"{self.run.done} versions, {len(self.client.served)} served, {len(self.client.taken)} feedback taken"

    def drain(self) -> None:
        """Ends the inflow, and lets everything be read to its end."""
        self._look()
        self.client.stop()
        for process in (self.player, self.server):
            process.end()
        self.run.end()
        segments = self.data / "segments"
        wait_until(lambda: places_read(self.broker.address, TOPIC, segments), "all of Kafka is read", self._told)
        for process in (*self.ingests, self.follower):
            process.end()
        self.run.once()

    def _told(self) -> str:
        return "\n".join(process.tail() for process in self.ingests)

    def books(self) -> Books:
        """What is compared."""
        return Books(self.data / "segments", self.out, self.notes, self.client, self.broker.address, TOPIC)

    def leave(self) -> None:
        """Kills what is left."""
        self.client.stop()
        self.run.leave()
        for process in self._processes:
            process.kill()
        self.broker.kill()


def onehull(*arguments: str) -> list[str]:
    """A command."""
    return [sys.executable, "-m", "onehull", *arguments]


def wait_until(holds: Any, what: str, tell: Any = str) -> None:
    """Waits until something holds.

    Raises:
        RuntimeError: it does not, after some time.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not so after {PATIENCE_SECONDS:.0f} seconds. {tell()}")
        time.sleep(0.2)


def soak(directory: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Plays, kills, drains and counts."""
    begun = time.monotonic()
    whole = Soak(directory, minutes, seed)
    try:
        whole.play()
        whole.drain()
        found = balance(whole.books())
    finally:
        whole.leave()
    ended = {process.name: process.ended for process in whole._processes if process.ended}
    return {
        "seed": seed,
        "minutes": minutes,
        "seconds": round(time.monotonic() - begun, 1),
        "kills": dict(sorted(whole.kills.items())),
        "runs_killed": whole.run.killed,
        "ended_by_themselves": ended | ({"run": whole.run.failed} if whole.run.failed else {}),
        **found,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The table of the documentation."""
    return pairs(_figures(result))


def _figures(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    kills = ", ".join(f"{name}: {count}" for name, count in result["kills"].items())
    whether = "yes" if result["books_balance"] else "no: " + ", ".join(result["faults"])
    rows = [("minutes", f"{result['minutes']:g}"), ("kills", f"{sum(result['kills'].values())} ({kills})")]
    return [*rows, *((name, f"{result[key]:,}") for key, name in SHOWN.items()), ("the books balance", whether)]


def main() -> None:
    """Soaks."""
    options = parser(__doc__)
    options.add_argument("--minutes", type=float, default=None, help="from the first event to the last")
    options.add_argument("--seed", type=int, default=None, help="of the world and the moments. Default: another one")
    options.add_argument("--docs", action="store_true", help="also put the table into the documentation")
    options.add_argument("--keep", type=Path, default=None, help="directory for everything; it stays")
    arguments = options.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**31)
    minutes = arguments.minutes or MINUTES[arguments.profile]
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        if arguments.keep is not None:
            directory = arguments.keep
            directory.mkdir(parents=True)
        result = {"profile": arguments.profile, **soak(directory, minutes, seed)}
    if arguments.docs:
        place(PAGE, "soak", markdown(result))
    finish("World → Kafka → … → serving → Kafka, all killed", ["", ""], _figures(result), result, arguments.save)


if __name__ == "__main__":
    main()
