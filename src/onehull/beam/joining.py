"""The pipeline of the join: files of a log → parts of joined impressions, and the books that each step leaves.

Every step may run again after a failure, so that what it writes stands under a name of its own and is written whole.
Tables travel between steps as Arrow IPC bytes.
"""

from __future__ import annotations

import io
import os
import pickle
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import polars as pl

from onehull.beam.runner import run
from onehull.events.decode import BlockDecoder, LineCounts
from onehull.events.join import JoinCounts, delivery_key, first_of_each, join
from onehull.events.joined import complete_until
from onehull.events.lines import Block, read_blocks
from onehull.events.log import Log
from onehull.events.names import FILE, ID, LINE, REFERENCE
from onehull.events.quarantine import Quarantine, Reason
from onehull.events.schema import EventSchema
from onehull.files import replacing, write_whole
from onehull.spec import Spec

Pairs = Iterator[tuple[int, bytes]]
"""Number of a partition, and a table."""


class Rejected(NamedTuple):
    """A line that could not be decoded."""

    file: int
    line: int
    reason: Reason
    detail: str
    raw: bytes


@dataclass
class Books:
    """What the steps found, gathered.

    Attributes:
        lines: what was seen of the log.
        counts: where the decoded events went.
        rejected: lines that could not be decoded, by file, as they were found.
        unjoined: by reason and detail, numbers of the file and of the line of decoded events that were rejected.
        parts: files of joined impressions.
    """

    lines: LineCounts = field(default_factory=LineCounts)
    counts: JoinCounts = field(default_factory=JoinCounts)
    rejected: list[Rejected] = field(default_factory=list)
    unjoined: dict[tuple[Reason, str], list[tuple[int, int]]] = field(default_factory=dict)
    parts: list[Path] = field(default_factory=list)

    def add(self, other: Books) -> Books:
        """Adds what another step found."""
        self.lines.lines += other.lines.lines
        self.lines.blank += other.lines.blank
        self.lines.unused.update(other.lines.unused)
        self.lines.latest = max(self.lines.latest, other.lines.latest)
        self.counts.add(other.counts)
        self.rejected += other.rejected
        for why, places in other.unjoined.items():
            self.unjoined.setdefault(why, []).extend(places)
        self.parts += other.parts
        return self


@dataclass(frozen=True)
class Join:
    """What every worker must know.

    Attributes:
        spec: the spec.
        schema: what is read of each line.
        workspace: directory that all workers see.
        partitions: number of partitions of the keys.
    """

    spec: Spec
    schema: EventSchema
    workspace: Path
    partitions: int


def run_join(work: Join, files: list[Path], options: Any) -> Books:
    """Runs the pipeline.

    Args:
        work: what every worker must know.
        files: of the log, in the order of their numbers.
        options: Beam's options.

    Raises:
        RunnerError: the pipeline failed; a damaged file is among the reasons.
    """

    def pipeline(root: beam.Pipeline) -> None:
        decoded = (
            root
            | "Files" >> beam.Create(list(enumerate(files)))
            | "Spread" >> beam.Reshuffle()
            | "Decode" >> beam.FlatMap(_decode, work).with_outputs("impressions", "feedback", "latest")
        )
        latest = decoded.latest | "Latest" >> beam.CombineGlobally(max)
        feedback = (
            decoded.feedback | "By delivery" >> beam.GroupByKey() | "First of each" >> beam.FlatMap(_repeated, work)
        )
        (
            {"impressions": decoded.impressions, "feedback": feedback}
            | "By impression" >> beam.CoGroupByKey()
            | "Join" >> beam.Map(_join, work, latest=beam.pvalue.AsSingleton(latest))
        )

    run(pipeline, options)
    found = (pickle.loads(path.read_bytes()) for path in sorted(work.workspace.glob("*.books")))  # noqa: S301  ours
    return reduce(Books.add, found, Books())


def _decode(numbered: tuple[int, Path], work: Join) -> Iterator[Any]:
    """Decodes a file; its events go to the partitions of their keys."""
    number, path = numbered
    collected = _Collected(number)
    decoder = BlockDecoder(work.schema, collected)
    for block in read_blocks(path):
        impressions, feedback = decoder.decode(block, path, number)
        for partition, table in _divided(impressions, pl.col(ID), work.partitions):
            yield beam.pvalue.TaggedOutput("impressions", (partition, table))
        for partition, table in _divided(feedback, delivery_key(), work.partitions):
            yield beam.pvalue.TaggedOutput("feedback", (partition, table))
    yield beam.pvalue.TaggedOutput("latest", decoder.counts.latest)
    _keep(work, f"1-decoded-{number:08}", Books(lines=decoder.counts, rejected=collected.found))


def _repeated(delivered: tuple[int, Iterable[bytes]], work: Join) -> Pairs:
    """Keeps one of each delivery; what stays goes to the partition of its impression."""
    partition, tables = delivered
    books, feedback = Books(), _stacked(tables)
    feedback, books.counts.feedback_duplicates, books.counts.feedback_conflicts = first_of_each(
        feedback, delivery_key()
    )
    yield from _divided(feedback, pl.col(REFERENCE), work.partitions)
    _keep(work, f"2-deliveries-{partition:08}", books)


def _join(events: tuple[int, Mapping[str, Iterable[bytes]]], work: Join, latest: float) -> None:
    """Joins a partition and writes its impressions."""
    partition, sides = events
    nothing = BlockDecoder(work.schema, _Collected(0)).decode(Block(1, b""), Path(), 0)
    impressions, feedback = (
        _stacked(sides[side], empty) for side, empty in zip(("impressions", "feedback"), nothing, strict=True)
    )
    books = Books()

    def reject(rejected: pl.DataFrame, reason: Reason, detail: str) -> None:
        books.unjoined[reason, detail] = list(rejected.select(FILE, LINE).iter_rows())

    log = Log([], impressions, feedback, LineCounts())
    joined, books.counts = join(log, work.spec.tasks, complete_until(work.spec, latest), reject)
    if len(joined):
        path = work.workspace / f"{partition:08}.parquet"
        with replacing(path, writer=f".{os.getpid()}") as temporary:
            joined.write_parquet(temporary)
        books.parts.append(path)
    _keep(work, f"3-joined-{partition:08}", books)


class _Collected(Quarantine):
    """A quarantine that keeps what it is given for the process that started the pipeline."""

    def __init__(self, file: int) -> None:
        super().__init__(Path())
        self.found: list[Rejected] = []
        self._number = file

    def reject(self, file: Path, line: int, reason: Reason, detail: str, raw: bytes) -> None:  # noqa: ARG002
        """Adds a rejected line; `line` counts from 1."""
        self.found.append(Rejected(self._number, line, reason, detail, raw))


def _divided(events: pl.DataFrame, key: pl.Expr, partitions: int) -> Pairs:
    """The events of each partition; the same key has the same partition in every process."""
    keyed = events.with_columns(
        key.map_batches(lambda keys: _partitions(keys, partitions), pl.Int64).alias("partition")
    )
    for (partition,), group in keyed.group_by("partition"):
        table = io.BytesIO()
        group.drop("partition").write_ipc(table, compression="lz4")
        yield int(str(partition)), table.getvalue()


def _partitions(keys: pl.Series, partitions: int) -> pl.Series:
    return pl.Series([zlib.crc32(key.encode()) % partitions for key in keys.to_list()], dtype=pl.Int64)


def _stacked(tables: Iterable[bytes], *empty: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([*empty, *(pl.read_ipc(io.BytesIO(table)) for table in tables)])


def _keep(work: Join, name: str, books: Books) -> None:
    write_whole(work.workspace / f"{name}.books", pickle.dumps(books))
