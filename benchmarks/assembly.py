"""Streaming assembly: events a second, and memory against the length of the log.

A log of impressions and feedback, as `onehull ingest` leaves it: segments of four partitions, JSON Lines, about in the
order of time. `onehull.events.stream` reads it in a process of its own, joins feedback inside the windows, attaches the
attributes of users and items, and writes samples and its state. The log is simulated; what it holds is known, so that
each label of each sample is counted.

``memory_growth``: peak memory with the whole log over that with a quarter of it; the windows are the same.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.harness import finish, pairs, parser, place
from onehull.cli.allocator import SETTINGS, VARIABLE
from onehull.events.stream import Stream
from onehull.spec import Spec, load_spec
from onehull.spec.section import parse_duration

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "assemble-a-stream.md"
EVENTS = 10_000_000
USERS, ITEMS, PARTITIONS = 200_000, 50_000, 4
SEGMENT_EVENTS = 400_000
EVENTS_A_SECOND = 30.0
"""In the log's own time: twelve hours, the longest window, hold 1.3 million events."""
BEGIN = 1_767_225_600.0  # 2026-01-01
JITTER_SECONDS = 20.0
RATES = {"click": 0.28, "watch": 0.28, "like": 0.03, "purchase": 0.01}
DELAYS = {"click": 30.0, "watch": 60.0, "like": 300.0, "purchase": 3 * 3600.0}
"""Mean delay of feedback in seconds (exponential)."""
TRUTH = "truth.parquet"
WINDOWS = {"click": "30m", "watch": "2h", "like": "2h", "purchase": "12h"}
DOCUMENT: dict[str, Any] = {
    "name": "assembly",
    "data": {
        "events": {"impressions": "*/*/[0-9]*/events.jsonl", "feedback": "*/*/[0-9]*/events.jsonl", "lateness": "5m"},
        "tables": {"user": {"path": "users.parquet", "key": "user"}, "item": {"path": "items.parquet", "key": "item"}},
        "split": {"by": "time", "validation": "6h", "test": "6h"},
    },
    "features": {
        "user_id": {"kind": "categorical", "column": "user"},
        "age_group": {"kind": "categorical"},
        "activity": {"kind": "numeric"},
        "item_id": {"kind": "categorical", "column": "item"},
        "category": {"kind": "categorical"},
        "duration": {"kind": "numeric"},
        "hour": {"kind": "categorical"},
        "position": {"kind": "categorical"},
        "device": {"kind": "categorical"},
    },
    "tasks": {
        "click": {"kind": "binary", "event": "click", "window": WINDOWS["click"]},
        "watch": {
            "kind": "regression",
            "event": "watch",
            "value": "value",
            "window": WINDOWS["watch"],
            "observed_when": "click",
        },
        "like": {"kind": "binary", "event": "like", "window": WINDOWS["like"]},
        "purchase": {"kind": "binary", "event": "purchase", "window": WINDOWS["purchase"]},
    },
}


def main() -> None:
    """Runs the benchmark, or (with ``--child``) one assembly for it."""
    arguments = parser(__doc__)
    arguments.add_argument("--docs", action="store_true", help="also put the table into the documentation")
    arguments.add_argument("--child", nargs=2, type=Path, metavar=("DATA", "OUT"), help="used by the benchmark itself")
    options = arguments.parse_args()
    if options.child is not None:
        print(json.dumps(assemble_once(*options.child)))
        return
    events, repeats = (EVENTS, 3) if options.profile == "fast" else (4 * EVENTS, 3)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        known = write_log(root / "whole", events)
        write_log(root / "quarter", events // 4)
        runs = [run(root, "whole") for _ in range(repeats)]
        quarter = run(root, "quarter")
    for found in runs:
        assert (found["lines"], found["impressions"]) == (known["events"], known["impressions"])
    seconds = statistics.median(found["seconds"] for found in runs)
    memory = max(found["peak_mib"] for found in runs)
    result = {
        "events": known["events"],
        "samples": known["impressions"],
        "megabytes": round(known["bytes"] / 1e6),
        "events_per_second": round(known["events"] / seconds),
        "seconds": [round(found["seconds"], 2) for found in runs],
        "open_events": max(found["open"] for found in runs),
        "peak_mib": round(memory),
        "peak_mib_of_a_quarter": round(quarter["peak_mib"]),
        "memory_growth": round(memory / quarter["peak_mib"], 3),
        "wrong_labels": max(found["wrong_labels"] for found in runs),
    }
    if options.docs:
        place(PAGE, "assembly", markdown(result))
    finish("Streaming assembly", ["", "measured"], shown(result), result, options.save)


def markdown(result: Mapping[str, Any]) -> str:
    """The table of the documentation."""
    return pairs(shown(result))


def shown(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was found, in words."""
    runs = ", ".join(f"{seconds:.1f}" for seconds in result["seconds"])
    return [
        ("events", f"{result['events']:,} ({result['megabytes']:,} MB)"),
        ("samples", f"{result['samples']:,}"),
        ("events a second, 2 cores, median", f"{result['events_per_second']:,}"),
        ("seconds of each run", runs),
        ("labels that are not as the log was made", f"{result['wrong_labels']}"),
        ("open events, the most at the end of a run", f"{result['open_events']:,}"),
        ("peak memory", f"{result['peak_mib']:,} MiB"),
        ("the same for a quarter of the log", f"{result['peak_mib_of_a_quarter']:,} MiB"),
    ]


def run(root: Path, name: str) -> dict[str, Any]:
    """One assembly in a process of its own."""
    out = root / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.assembly", "--child", str(root / name), str(out)]
    environment = {**os.environ, VARIABLE: SETTINGS}  # as the command line has it
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603  our own
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def assemble_once(data: Path, out: Path) -> dict[str, Any]:
    """Assembles the log, then counts what was written."""
    spec: Spec = load_spec(DOCUMENT)
    start = time.perf_counter()
    stream = Stream(spec, data, out, "benchmark")
    stream.run()
    seconds = time.perf_counter() - start
    peak = peak_mib()
    left = pl.scan_parquet(stream.sample_files())
    return {
        "seconds": seconds,
        "peak_mib": peak,
        "open": stream.windows.rows,
        "lines": stream.lines.lines,
        "impressions": left.select(pl.len()).collect().item() + len(stream.windows.impressions),
        "wrong_labels": wrong_labels(left, data / TRUTH),
    }


def peak_mib() -> float:
    """The most memory that this program has held. What `getrusage` says is that of the parent where it held more."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def wrong_labels(left: pl.LazyFrame, truth: Path) -> int:
    """Labels of the samples that have left which are not what the log was made with."""
    both = left.join(pl.scan_parquet(truth), on="sample", how="left")
    same = [pl.col(f"y.{task}").eq_missing(pl.col(f"true.{task}")) for task in RATES]
    return int(both.select(pl.sum_horizontal((~one).sum() for one in same)).collect().item())


def write_log(directory: Path, events: int) -> dict[str, Any]:
    """Writes segments and attribute tables; says what they hold."""
    random = np.random.default_rng(0)
    count = int(events / (1 + sum(RATES.values())))
    shown = np.sort(BEGIN + random.uniform(0, events / EVENTS_A_SECOND, count))
    user, item = random.integers(0, USERS, count), random.integers(0, ITEMS, count)
    frames = [_impressions(shown, user, item, random)]
    clicked = random.random(count) < RATES["click"]
    truth: dict[str, np.ndarray] = {}
    for kind, rate in RATES.items():
        hit = clicked if kind in {"click", "watch"} else clicked & (random.random(count) < rate / RATES["click"])
        rows = np.flatnonzero(hit)
        moment = shown[rows] + random.exponential(DELAYS[kind], len(rows))
        value = random.uniform(1, 60, len(rows)).round(1)
        frames.append(_feedback(kind, rows, moment, value, user, random))
        inside = (
            _milliseconds(moment) - _milliseconds(shown[rows]) <= parse_duration(WINDOWS[kind]).total_seconds() * 1000
        )
        truth[kind] = np.zeros(count)
        truth[kind][rows[inside]] = value[inside] if kind == "watch" else 1.0
    truth["watch"][truth["click"] == 0] = np.nan
    columns = {"sample": [f"i{n}" for n in range(count)], **{f"true.{kind}": truth[kind] for kind in RATES}}
    log = pl.concat(frames).sort("sent")
    _write_segments(directory, log)
    _write_tables(directory, random)
    pl.DataFrame(columns, nan_to_null=True).write_parquet(directory / TRUTH)
    size = int(log["line"].str.len_bytes().cast(pl.Int64).sum()) + len(log)
    return {"events": len(log), "impressions": count, "bytes": size}


def _impressions(shown: np.ndarray, user: np.ndarray, item: np.ndarray, random: np.random.Generator) -> pl.DataFrame:
    count = len(shown)
    frame = pl.DataFrame(
        {"n": np.arange(count), "user": user, "item": item, "hour": (shown // 3600 % 24).astype(int),
         "position": random.integers(0, 12, count), "device": random.choice(["phone", "tablet", "web"], count),
         "time": _iso(shown), "sent": shown + random.uniform(0, JITTER_SECONDS, count)}
    )  # fmt: skip
    line = pl.format(_IMPRESSION, "n", "time", "user", "item", "hour", "position", "device")
    return frame.select("sent", (pl.col("user") % PARTITIONS).alias("partition"), _braced(line))


_IMPRESSION = (
    '<"event":"impression","id":"i{}","time":"{}","user":"u{}","item":"v{}",'
    '"context":<"hour":{},"position":{},"device":"{}">>'
)
_FEEDBACK = '<"event":"{}","id":"{}{}","impression":"i{}","time":"{}","value":{}>'


def _feedback(
    kind: str, rows: np.ndarray, moment: np.ndarray, value: np.ndarray, user: np.ndarray, random: np.random.Generator
) -> pl.DataFrame:
    sent = moment + random.uniform(0, JITTER_SECONDS, len(rows))
    frame = pl.DataFrame({"n": rows, "user": user[rows], "time": _iso(moment), "value": value, "sent": sent})
    line = pl.format(_FEEDBACK, pl.lit(kind), pl.lit(kind[0]), "n", "n", "time", "value")
    return frame.select("sent", (pl.col("user") % PARTITIONS).alias("partition"), _braced(line))


def _braced(line: pl.Expr) -> pl.Expr:
    """`pl.format` takes braces for places, so objects are written with angle brackets first."""
    return line.str.replace_all("<", "{", literal=True).str.replace_all(">", "}", literal=True).alias("line")


def _iso(seconds: np.ndarray) -> pl.Series:
    moments = pl.Series(_milliseconds(seconds)).cast(pl.Datetime("ms"))
    return moments.dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")


def _milliseconds(seconds: np.ndarray) -> np.ndarray:
    return (seconds * 1000).astype(np.int64)


def _write_segments(directory: Path, log: pl.DataFrame) -> None:
    for (partition,), part in log.partition_by("partition", as_dict=True, maintain_order=True).items():
        for first in range(0, len(part), SEGMENT_EVENTS):
            segment = directory / "events" / str(partition) / f"{first:020d}"
            segment.mkdir(parents=True)
            lines = part["line"][first : first + SEGMENT_EVENTS]
            (segment / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_tables(directory: Path, random: np.random.Generator) -> None:
    users = {"user": [f"u{n}" for n in range(USERS)], "age_group": random.choice(["18", "25", "35", "50"], USERS),
             "activity": random.uniform(0, 60, USERS)}  # fmt: skip
    items = {"item": [f"v{n}" for n in range(ITEMS)], "category": random.integers(0, 40, ITEMS).astype(str),
             "duration": random.uniform(5, 240, ITEMS)}  # fmt: skip
    pl.DataFrame(users).write_parquet(directory / "users.parquet")
    pl.DataFrame(items).write_parquet(directory / "items.parquet")


if __name__ == "__main__":
    main()
