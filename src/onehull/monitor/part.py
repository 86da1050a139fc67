"""A part of the input that fits in memory, assembled by the same rules as the whole.

Where the input has more rows than are wanted, rows are drawn from all of it, so that every day is there. Of an event
log whole impressions are drawn by their id, with every delivery of them and all of their feedback: a label of the part
is the label of the whole. For that the log is read twice from end to end, and only the part is held and written.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from onehull.events import assemble
from onehull.events.files import find_files, scan_table
from onehull.events.lines import UNREADABLE, read_blocks
from onehull.events.report import SAMPLES_FILE
from onehull.monitor.sample import drawn
from onehull.spec import Spec
from onehull.spec.data import EventLog, RandomSplit
from onehull.spec.events import IMPRESSION
from onehull.spec.samples import id_text

_HASHES = 1 << 32
# What is looked at is the training part, and validation and test must not be empty.
_SPLIT = RandomSplit(by="random", validation=0.1, test=0.1)


class _Key(msgspec.Struct):
    event: str
    id: Any = None
    impression: Any = None


def assemble_part(spec: Spec, data_dir: Path, out_dir: Path, rows: int) -> Path:
    """Assembles the input, or a part of it where it is larger.

    Args:
        spec: the spec.
        data_dir: directory of the input.
        out_dir: where the artifacts of `onehull.events.assemble` go, and the part of the input.
        rows: about how many impressions, or at most how many rows, the part has.

    Returns:
        The samples table. Of a part, eight tenths are training rows, drawn at random.

    Raises:
        DataError: as `onehull.events.assemble`.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    if spec.data.events is not None:
        changed = _part_of_log(spec.data.events, data_dir, out_dir / "events.jsonl", rows)
    else:
        changed = _part_of_table(spec, data_dir, out_dir / "table.parquet", rows)
    if changed:
        part = spec.data.model_copy(update={**changed, "split": _SPLIT})
        spec = spec.model_copy(update={"data": part})
    assemble(spec, data_dir, out_dir)
    return out_dir / SAMPLES_FILE


def keeper(share: float) -> Callable[[bytes], bool]:
    """Tells of a line of an event log whether its impression is drawn; one and the same for all lines about it.

    Args:
        share: of impressions, 0 … 1. A line that cannot be read is not drawn.
    """
    decoder = msgspec.json.Decoder(_Key)
    limit = share * _HASHES

    def keep(line: bytes) -> bool:
        try:
            key = decoder.decode(line)
        except UNREADABLE:
            return False
        text = id_text(key.id if key.event == IMPRESSION else key.impression)
        return text is not None and zlib.crc32(text.encode(errors="replace")) < limit

    return keep


def count_lines(files: list[Path]) -> int:
    """Lines of some files."""
    return sum(block.count for file in files for block in read_blocks(file))


def _part_of_log(events: EventLog, data_dir: Path, path: Path, rows: int) -> dict[str, Any]:
    """The changed fields of `data`; none where the whole log is small enough."""
    impressions = find_files(data_dir, events.impressions)
    lines = count_lines(impressions)
    if lines <= rows:
        return {}
    keep = keeper(rows / lines)
    files = sorted({*impressions, *find_files(data_dir, events.feedback)})
    with path.open("wb") as out:
        for line in _lines(files):
            if keep(line):
                out.write(line + b"\n")
    return {"events": events.model_copy(update={"impressions": str(path), "feedback": str(path)})}


def _part_of_table(spec: Spec, data_dir: Path, path: Path, rows: int) -> dict[str, Any]:
    table = scan_table(find_files(data_dir, str(spec.data.samples)))
    part, total = drawn(table, rows, spec.leakage.seed)
    if total <= rows:
        return {}
    part.write_parquet(path)
    return {"samples": str(path), "holdout": None}


def _lines(files: list[Path]) -> Iterator[bytes]:
    for file in files:
        for block in read_blocks(file):
            yield from block.lines
