"""How long feedback takes, against the window of its task: of a large log, of every n-th line of feedback."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from onehull.events.files import find_files
from onehull.events.lines import UNREADABLE, read_blocks
from onehull.events.times import LAST_SECOND, seconds_since_1970
from onehull.monitor.part import count_lines
from onehull.monitor.report import Delay
from onehull.spec import Spec
from onehull.spec.samples import SAMPLE, TIME, id_text
from onehull.spec.tasks import Task

_LINES = 500_000
"""About as many lines are decoded."""
_STREAM_BYTES = 64 << 20
"""Of a stream, about as much is looked at."""
_SHARES = 41
_SECOND = 1_000_000


class _Feedback(msgspec.Struct):
    event: str
    time: datetime | float
    impression: Any = None


def feedback_delays(spec: Spec, data_dir: Path, samples: Path) -> tuple[tuple[Delay, ...], float]:
    """Delays of every task that has a window.

    Args:
        spec: the spec; without an event log there are no delays.
        data_dir: directory of the input.
        samples: the samples made from it.

    Returns:
        One entry a task, and the share of lines that was looked at.
    """
    if spec.data.events is None:
        return (), 0.0
    files, looked_at = find_files(data_dir, spec.data.events.feedback), 1.0
    if spec.data.events.lateness is not None:
        files, looked_at = _newest(files)
    step = -(-count_lines(files) // _LINES) or 1
    kinds = {task.event for task in spec.tasks.values()}
    blocks = [_read(block.lines[::step], kinds) for file in files for block in read_blocks(file)]
    shown = pl.scan_parquet(samples).select(SAMPLE, pl.col(TIME).cast(pl.Int64).alias("shown")).unique()
    schema = {"event": pl.String, SAMPLE: pl.String, "time": pl.Int64}
    feedback = pl.concat([pl.DataFrame(schema=schema), *blocks]).unique()
    delays = (
        feedback.lazy()
        .join(shown, on=SAMPLE)
        .select("event", delay=pl.col("time") - pl.col("shown"))
        .filter(pl.col("delay") >= 0)
        .collect(engine="streaming")
    )
    return tuple(_delay(name, task, delays) for name, task in spec.tasks.items()), looked_at / step


def _newest(files: list[Path]) -> tuple[list[Path], float]:
    """The files of a stream that were written last, and the share of the bytes that they hold: it never ends."""
    sizes = {file: file.stat().st_size for file in files}
    chosen: list[Path] = []
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        chosen.append(file)
        if sum(sizes[one] for one in chosen) >= _STREAM_BYTES:
            break
    return sorted(chosen), sum(sizes[one] for one in chosen) / max(1, sum(sizes.values()))


def _read(lines: list[bytes], kinds: set[str | None]) -> pl.DataFrame:
    """Kind, impression and moment of the feedback that a task reads; broken lines are told by the assembly's books."""
    decoder = msgspec.json.Decoder(_Feedback)
    rows: list[tuple[str, str, int]] = []
    for line in lines:
        try:
            event = decoder.decode(line)
        except UNREADABLE:
            continue
        reference = id_text(event.impression)
        if event.event not in kinds or reference is None:
            continue
        seconds = seconds_since_1970(event.time)
        if math.isfinite(seconds) and 0 <= seconds < LAST_SECOND:
            rows.append((event.event, reference, round(seconds * _SECOND)))
    schema = {"event": pl.String, SAMPLE: pl.String, "time": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _delay(name: str, task: Task, delays: pl.DataFrame) -> Delay:
    window = task.window or timedelta(0)
    seconds = delays.filter(pl.col("event") == task.event)["delay"].to_numpy() / _SECOND
    inside = seconds[seconds <= window.total_seconds()]
    found = np.quantile(inside, np.linspace(0, 1, _SHARES)) if len(inside) else ()
    return Delay(
        task=name,
        window_s=window.total_seconds(),
        events=len(inside),
        after=len(seconds) - len(inside),
        seconds=tuple(float(value) for value in found),
    )
