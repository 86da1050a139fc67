"""The books of `benchmarks.soak`: what was told to producers, what is in segments, what became of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from tests.streams import books_of

from benchmarks.soak_client import Client
from benchmarks.soak_player import acknowledged
from onehull.events import read_report
from onehull.export import bundle_versions
from onehull.spec.events import IMPRESSION
from onehull.spec.samples import SAMPLE
from onehull.streams.segments import EVENTS_GLOB, SegmentChain

LOST_SECONDS = 15.0
"""What was served so long before the service was killed may be lost: it waits in memory for a broker that is away."""


class _Event(msgspec.Struct):
    event: str
    id: str | None = None
    delivery: str | None = None


@dataclass(frozen=True)
class Books:
    """Where everything is.

    Attributes:
        segments: directory of the segments.
        out: of assembly and training.
        notes: what the broker acknowledged to the player.
        client: what the service told.
        server: the broker.
        topic: its topic.
    """

    segments: Path
    out: Path
    notes: Path
    client: Client
    server: str
    topic: str


@dataclass
class Found:
    """What is in the segments.

    Attributes:
        lines: number of events.
        deliveries: how often each message of the player is there.
        impressions: how often each impression is.
        feedback: how often each feedback of the service is.
    """

    lines: int = 0
    deliveries: Counter[str] = field(default_factory=Counter)
    impressions: Counter[str] = field(default_factory=Counter)
    feedback: Counter[str] = field(default_factory=Counter)


def ends(server: str, topic: str) -> dict[int, int]:
    """The end of each partition."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": server, "group.id": "soak-books", "log_level": 0})
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        return {part: consumer.get_watermark_offsets(TopicPartition(topic, part), timeout=30)[1] for part in partitions}
    finally:
        consumer.close()


def places_read(server: str, topic: str, segments: Path) -> bool:
    """Whether the segments go to the end of every partition."""
    return all(_end(segments / topic / str(part)) == end for part, end in ends(server, topic).items())


def _end(directory: Path) -> int:
    last = SegmentChain(directory).last()
    return last.next if last is not None else 0


def found_in(segments: Path) -> Found:
    """Looks through all events."""
    found, decode = Found(), msgspec.json.Decoder(_Event).decode
    for path in segments.glob(EVENTS_GLOB):
        for line in path.read_bytes().splitlines():
            event = decode(line)
            found.lines += 1
            if event.delivery is not None:
                found.deliveries[event.delivery] += 1
            if event.event == IMPRESSION:
                found.impressions[event.id or ""] += 1
            elif event.delivery is None:
                found.feedback[event.id or ""] += 1
    return found


def balance(books: Books) -> dict[str, Any]:
    """Compares everything.

    Returns:
        The figures; ``books_balance`` says whether all is as it must be, and ``faults`` what is not.
    """
    found, faults = found_in(books.segments), []
    partitions = [one for chain in books_of(books.segments).values() for one in chain]
    places = sum(one.next - one.first for one in partitions)
    refused = sum(sum(one.quarantined.values()) for one in partitions)
    acked = acknowledged(books.notes)
    whole, broken = {tag for tag in acked if not tag.endswith("x")}, sum(tag.endswith("x") for tag in acked)
    taken, served = books.client.taken, books.client.served
    lost = len(whole - found.deliveries.keys()) + len(taken - found.feedback.keys())
    of_service = {name: found.impressions[name] for name in served if name in found.impressions}
    many = [*found.deliveries.values(), *found.feedback.values(), *of_service.values()]
    duplicated = sum(count - 1 for count in many)
    gone = served.keys() - of_service.keys()
    unexplained = [name for name in gone if not _before_a_kill(served[name], books.client.kills)]
    report = read_report(books.out / "samples")
    samples = pl.read_parquet(books.out / "samples" / "samples.parquet", columns=[SAMPLE])[SAMPLE]
    versions = len(bundle_versions(books.out / "bundle" / "soak"))
    checks = {
        "all of Kafka is in segments": places == sum(ends(books.server, books.topic).values()),
        "nothing that was acknowledged is lost": lost == 0,
        "nothing is there twice": duplicated == 0,
        "broken lines are refused": refused >= broken,
        "impressions are lost only with a kill": not unexplained,
        "assembly reads every line": report.log is not None and report.log.lines == found.lines,
        "assembly accounts for every line": report.log is not None and report.log.accounted == report.log.lines,
        "a sample an impression": sorted(samples) == sorted(found.impressions),
        "what was served has come back": bool(of_service) and of_service.keys() <= set(samples),
        "several versions": versions >= 2,
    }
    faults = [what for what, holds in checks.items() if not holds]
    return {
        "acknowledged": len(acked) + len(taken),
        "ingested": found.lines + refused,
        "lost": lost,
        "duplicated": duplicated,
        "quarantined": refused,
        "samples": len(samples),
        "too_late": report.log.quarantined.get("too_late", 0) if report.log is not None else 0,
        "versions": versions,
        "served": len(served),
        "served_back_in_samples": len(of_service),
        "served_lost_with_a_kill": len(gone) - len(unexplained),
        "served_lost": len(unexplained),
        "feedback_taken": len(taken),
        "feedback_refused": sum(status is None or status != 202 for status in books.client.sent.values()),
        "faults": faults,
        "books_balance": not faults,
    }


def _before_a_kill(moment: float, kills: list[float]) -> bool:
    return any(0.0 <= kill - moment <= LOST_SECONDS for kill in kills)
