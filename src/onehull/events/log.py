"""A whole event log: every line of every file, read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from onehull.events.ahead import ahead
from onehull.events.decode import BlockDecoder, LineCounts
from onehull.events.lines import read_blocks, read_lines
from onehull.events.names import FILE, LINE
from onehull.events.quarantine import Quarantine, Reason
from onehull.events.schema import EventSchema

Progress = Callable[[str, float], None]
"""Told what is being done, and the share of it that is done (0 … 1)."""


@dataclass(frozen=True)
class Log:
    """Decoded events, as they were delivered: unsorted, with duplicates.

    Attributes:
        files: the files, in the order of the column `FILE`.
        impressions: see `BlockDecoder.decode`.
        feedback: see `BlockDecoder.decode`.
        counts: lines read, blank lines, unused kinds, the latest moment.
    """

    files: Sequence[Path]
    impressions: pl.DataFrame
    feedback: pl.DataFrame
    counts: LineCounts


def read_log(
    files: Sequence[Path], schema: EventSchema, quarantine: Quarantine, progress: Progress | None = None
) -> Log:
    """Decodes every line of the files.

    Args:
        files: log files; impressions and feedback may stand in the same file.
        schema: what is read of each line.
        quarantine: where rejected lines go.
        progress: told the share of bytes read.

    Raises:
        DataError: a file is unreadable, damaged or cut off.
    """
    decoder = BlockDecoder(schema, quarantine)
    impressions, feedback = [], []
    total, done = max(1, sum(file.stat().st_size for file in files)), 0
    blocks = ((number, path, block) for number, path in enumerate(files) for block in read_blocks(path))
    for (number, path, block), columns in ahead(blocks, lambda read: decoder.columns(read[2])):
        decoded = decoder.decode(block, path, number, columns)
        impressions.append(decoded[0])
        feedback.append(decoded[1])
        if progress is not None:
            done += len(block.text)
            progress("reading the log", min(1.0, done / total))  # packed files hold more than their size
    return Log(files, _stack(impressions), _stack(feedback), decoder.counts)


def quarantine_events(
    events: pl.DataFrame, files: Sequence[Path], quarantine: Quarantine, reason: Reason, detail: str
) -> None:
    """Rejects events that turned out unusable after decoding; their text is read again from the files.

    Args:
        events: rows with the columns `FILE` and `LINE`.
        files: the log's files.
        quarantine: where they go.
        reason: why.
        detail: the same in words.
    """
    for (number,), group in events.sort(FILE, LINE).group_by(FILE, maintain_order=True):
        path = files[int(str(number))]
        numbers = group[LINE].to_list()
        for line, raw in zip(numbers, read_lines(path, iter(numbers)), strict=True):
            quarantine.reject(path, line, reason, detail, raw)


def _stack(blocks: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(blocks) if blocks else pl.DataFrame()
