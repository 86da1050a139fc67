"""A log assembled as a stream: the samples of the whole log joined at once, whatever is killed, and whenever."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from onehull.errors import ArtifactError, DataError
from onehull.events import assemble
from onehull.events.stream import Stream
from onehull.spec import Spec, load_spec

BEGIN = 1_767_600_000.0
MINUTE = 60.0


def document(lateness: str | None = "10m", **data: Any) -> dict:
    events = {"impressions": "**/*.jsonl", "feedback": "**/*.jsonl"}
    return {
        "name": "stream",
        "data": {
            "events": {**events, **({"lateness": lateness} if lateness else {})},
            "split": {"by": "column", "column": "part", "validation": [1], "test": [2]},
            **data,
        },
        "features": {"hour": {"kind": "numeric"}},
        "tasks": {
            "click": {"kind": "binary", "event": "click", "window": "20m"},
            "watch": {"kind": "regression", "event": "watch", "value": "value", "window": "1h"},
            "stars": {"kind": "multiclass", "event": "stars", "classes": 5, "value": "value", "window": "2h"},
            "buy": {"kind": "binary", "event": "buy", "window": "2h", "observed_when": "click"},
        },
    }


def spec(lateness: str | None = "10m", **data: Any) -> Spec:
    return load_spec(document(lateness, **data))


def events(count: int, seed: int, *, minutes: float = 600.0, disorder: float = 300.0) -> list[dict]:
    """A log in the order of delivery: about that of time, with copies delivered again."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        shown = BEGIN + draw.uniform(0, minutes * MINUTE)
        user, context = f"u{number % 7}", {"part": number % 3, "hour": number % 24}
        found.append({"event": "impression", "id": f"i{number}", "time": shown, "user": user, "context": context})
        for kind, rate, mean in (("click", 0.5, 400), ("watch", 0.8, 1500), ("stars", 0.4, 3000), ("buy", 0.3, 4000)):
            for copy in range(draw.choice([1, 1, 2]) if draw.random() < rate else 0):
                value = draw.randrange(5)
                moment = shown + draw.expovariate(1 / mean)
                event = {"event": kind, "id": f"{kind}{number}-{copy}", "impression": f"i{number}", "time": moment}
                found.append({**event, "value": value})
    found += draw.sample(found, len(found) // 20)
    return sorted(found, key=lambda event: event["time"] + draw.uniform(0, disorder))


def write(path: Path, log: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(event) + "\n" for event in log))
    return path


def segments(data: Path, log: list[dict], size: int, partitions: int = 3) -> None:
    """The log as `onehull ingest` leaves it."""
    for number in range(partitions):
        part = [event for event in log if hash_of(event) % partitions == number]
        for first in range(0, len(part), size):
            write(data / "topic" / str(number) / f"{first:020d}" / "events.jsonl", part[first : first + size])


def hash_of(event: dict) -> int:
    return int((event.get("impression") or event["id"])[1:])


def batch(data: Path, out: Path, **more: Any) -> pl.DataFrame:
    assemble(spec(None, **more), data, out)
    return pl.read_parquet(out / "samples.parquet")


def streamed(data: Path, out: Path, step_rows: int = 200, **more: Any) -> pl.DataFrame:
    stream = Stream(spec(**more), data, out / "stream", "key", step_rows=step_rows)
    report = assemble(spec(**more), data, out, stream=stream)
    assert report.log is not None
    assert report.log.accounted == report.log.lines
    return pl.read_parquet(out / "samples.parquet")


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.sampled_from([1, 50, 400, 10_000]), size=st.sampled_from([20, 300]))
def test_the_samples_are_those_of_the_whole_log(
    seed: int, steps: int, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("stream")
    segments(root / "data", events(300, seed), size)
    assert_frame_equal(streamed(root / "data", root / "b", steps), batch(root / "data", root / "a"))


def test_samples_leave_when_their_windows_close_and_only_the_open_ones_are_kept(tmp_path: Path) -> None:
    segments(tmp_path / "data", events(3000, 1, minutes=60 * 24), 500)
    stream = Stream(spec(), tmp_path / "data", tmp_path / "stream", "key", step_rows=500)
    stream.run()
    left = pl.read_parquet(stream.sample_files())
    assert 2500 < len(left) < 3000
    assert left["time"].is_sorted()
    # Two hours of windows and ten minutes of lateness out of a day, and what came in the same step.
    assert len(stream.windows.impressions) + len(left) == 3000
    assert len(stream.windows.impressions) < 400


def test_a_log_that_grows_is_read_from_where_it_was_left(tmp_path: Path) -> None:
    log = events(600, 2)
    data, out = tmp_path / "data", tmp_path / "out"
    for share in (0.3, 0.5, 0.8, 1.0):
        part = log[: int(len(log) * share)]
        write(data / "feed.jsonl", part)
        found = streamed(data, out)
        assert_frame_equal(found, batch(data, tmp_path / str(share)))
    stream = Stream(spec(), data, out / "stream", "key")
    assert stream.lines.lines == len(log)


def test_a_line_that_is_still_being_written_is_read_when_it_ends(tmp_path: Path) -> None:
    data = tmp_path / "data"
    log = events(50, 3)
    path = write(data / "feed.jsonl", log)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    stream = Stream(spec(), data, tmp_path / "stream", "key")
    stream.run()
    assert stream.lines.lines == len(log) - 1
    path.write_bytes(whole)
    again = Stream(spec(), data, tmp_path / "stream", "key")
    again.run()
    assert again.lines.lines == len(log)
    assert not again.quarantined


def test_a_packed_file_beside_plain_ones_is_part_of_the_log(tmp_path: Path) -> None:
    import gzip

    data, log = tmp_path / "data", events(200, 4)
    write(data / "b.jsonl", log[1::2])
    (data / "a.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(e) + "\n" for e in log[::2]).encode()))
    paths = {"impressions": "*.jsonl*", "feedback": "*.jsonl*"}
    found = streamed(data, tmp_path / "b", events={**paths, "lateness": "10m"})
    assert_frame_equal(found, batch(data, tmp_path / "a", events=paths))


def test_an_impression_whose_windows_had_closed_is_put_aside_and_its_feedback_with_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    log = events(400, 5)
    write(data / "1.jsonl", log)
    stream = Stream(spec(), data, tmp_path / "stream", "key", step_rows=100)
    stream.run()
    shown = {"event": "impression", "id": "late", "time": BEGIN + 60, "user": "u", "context": {"part": 0}}
    write(data / "2.jsonl", [shown, {"event": "click", "impression": "late", "time": BEGIN + 90}])
    again = Stream(spec(), data, tmp_path / "stream", "key", step_rows=100)
    again.run()
    assert again.quarantined["too_late"] == 1
    assert again.quarantined["no_impression"] == stream.quarantined["no_impression"] + 1
    assert again.joined.impressions == stream.joined.impressions


def test_one_event_from_the_future_closes_no_window(tmp_path: Path) -> None:
    data = tmp_path / "data"
    log = events(400, 6)
    future = {"event": "impression", "id": "future", "time": BEGIN + 9e8, "user": "u", "context": {"part": 0}}
    write(data / "feed.jsonl", [*log[:300], future, *log[300:]])
    stream = Stream(spec(), data, tmp_path / "stream", "key", step_rows=50)
    stream.run()
    assert not stream.quarantined["too_late"]
    assert "future" in stream.windows.impressions["id"]


def test_a_clock_that_jumps_back_makes_its_events_late_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    log = events(400, 7)
    behind = [{**event, "time": event["time"] - 86400, "id": f"b{n}"} for n, event in enumerate(log[-20:])]
    write(data / "feed.jsonl", [*log[:600], *behind, *log[600:]])
    stream = Stream(spec(), data, tmp_path / "stream", "key", step_rows=50)
    report = assemble(spec(), data, tmp_path / "out", stream=stream)
    assert report.log is not None
    assert report.log.accounted == report.log.lines
    assert report.rows == 400 + sum(event["event"] == "impression" for event in behind) - stream.quarantined["too_late"]


def test_a_field_that_comes_and_goes_is_missing_where_it_is_not(tmp_path: Path) -> None:
    data = tmp_path / "data"
    log = events(200, 8)
    without = [{**e, "context": {"part": 0}} if e["event"] == "impression" else e for e in log[:100]]
    more = [{**e, "context": {**e.get("context", {}), "new": {"deep": [1]}}, "extra": "x"} for e in log[100:]]
    write(data / "feed.jsonl", [*without, *more])
    found = streamed(data, tmp_path / "out", 30)
    gone = sum(event["event"] == "impression" for event in {e["id"]: e for e in without}.values())
    assert found["x.hour"].null_count() == pytest.approx(gone, abs=12)  # a few come again in the second half
    assert found["x.hour"].null_count() > 0


def test_many_events_of_one_impression_cost_no_memory_beyond_their_window(tmp_path: Path) -> None:
    data = tmp_path / "data"
    shown = {"event": "impression", "id": "i0", "time": BEGIN, "user": "u", "context": {"part": 0, "hour": 1}}
    same = [{"event": "watch", "id": f"w{n}", "impression": "i0", "time": BEGIN + 1, "value": 1} for n in range(20_000)]
    later = [{**shown, "id": f"i{n}", "time": BEGIN + n * 1e4, "context": {"part": n % 3}} for n in range(1, 41)]
    write(data / "1.jsonl", [shown, *same])
    write(data / "2.jsonl", later)
    found = streamed(data, tmp_path / "out", 1000)
    assert found.filter(pl.col("sample") == "i0")["y.watch"].to_list() == [20_000.0]
    stream = Stream(spec(), data, tmp_path / "out" / "stream", "key")
    assert stream.windows.rows <= 20


def test_an_event_of_50_megabytes_is_one_line_like_others(tmp_path: Path) -> None:
    data, log = tmp_path / "data", events(200, 12)
    number = next(n for n, event in enumerate(log) if event["event"] == "impression")
    write(data / "feed.jsonl", [*log[:number], {**log[number], "blob": "x" * 50_000_000}, *log[number + 1 :]])
    write(tmp_path / "plain" / "feed.jsonl", log)
    assert_frame_equal(streamed(data, tmp_path / "b"), batch(tmp_path / "plain", tmp_path / "a"))


def test_another_spec_or_a_shorter_file_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    path = write(data / "feed.jsonl", events(50, 9))
    Stream(spec(), data, tmp_path / "stream", "key").run()
    with pytest.raises(ArtifactError, match="another spec"):
        Stream(spec(), data, tmp_path / "stream", "other")
    path.write_bytes(path.read_bytes()[:100] + b"\n")
    (data / "new.jsonl").write_bytes(b'{"event": "click", "time": 1}\n')
    with pytest.raises(DataError, match="shorter than what has been read"):
        Stream(spec(), data, tmp_path / "stream", "key").run()


def test_files_of_a_stream_grow_with_the_data_and_not_with_the_time(tmp_path: Path) -> None:
    log = events(1500, 13, minutes=3000)
    broken = {"event": "click", "id": "b", "impression": None, "time": BEGIN}
    data, directory = tmp_path / "data", tmp_path / "stream"
    for step in range(80):
        part = log[len(log) * step // 80 : len(log) * (step + 1) // 80]
        write(data / f"{step:03d}.jsonl", [*part, broken])
        Stream(spec(), data, directory, "key", step_rows=20).run()
    epochs = sorted(path for path in directory.iterdir() if path.name.isdecimal())
    assert len(epochs) == 2
    assert len(list(epochs[-1].glob("samples-*"))) < 40
    assert len(list(epochs[-1].glob("quarantine-*"))) < 40
    found = streamed_from(data, tmp_path / "out", directory)
    assert_frame_equal(found, batch(data, tmp_path / "a"))
    assert (tmp_path / "out" / "quarantine.jsonl").read_text().count('"no_id"') == 80


def test_a_stream_that_another_process_adds_to_is_read_as_far_as_that_one_has_come(tmp_path: Path) -> None:
    log = events(400, 14)
    data, directory, links = tmp_path / "data", tmp_path / "stream", tmp_path / "links"
    write(data / "1.jsonl", log[:900])
    Stream(spec(), data, directory, "key", step_rows=100).run()
    beside = Stream(spec(), data, directory, "key", links=links)
    for step in range(2, 5):  # the other process goes on, and removes what was linked
        write(data / f"{step}.jsonl", log[900 + step : 901 + step])
        Stream(spec(), data, directory, "key", step_rows=100).run()
    report = assemble(spec(), data, tmp_path / "out", stream=beside)
    assert report.log is not None
    assert report.log.lines == 900
    assert report.log.accounted == 900
    assert pl.read_parquet(tmp_path / "out" / "samples.parquet")["sample"].n_unique() == report.rows


def test_without_lateness_there_is_no_stream(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lateness must be given"):
        Stream(spec(None), tmp_path, tmp_path / "stream", "key")


FOLLOW = """
import sys
from pathlib import Path
from onehull.events.stream import Stream
from tests.unit.test_events_stream import spec
stream = Stream(spec(), Path(sys.argv[1]), Path(sys.argv[2]), "key", step_rows=200, commit_seconds=0.02)
stream.run(stop=lambda: False)
"""


def test_killed_at_any_moment_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    log = events(4000, 10, minutes=3000)
    data, stream = tmp_path / "data", tmp_path / "stream"
    draw = random.Random(11)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    written = 0
    for _ in range(6):
        part = log[written : written + len(log) // 6 + 1]
        segments(data / str(written), part, 150)
        written += len(part)
        command = [sys.executable, "-c", FOLLOW, str(data), str(stream)]
        process = subprocess.Popen(command, env=environment)
        before = last_epoch(stream)
        end = time.monotonic() + 60
        while last_epoch(stream) <= before and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    found = streamed_from(data, tmp_path / "out", stream)
    assert_frame_equal(found, batch(data, tmp_path / "a"))


def last_epoch(directory: Path) -> int:
    return max((int(path.name) for path in directory.glob("0*")), default=-1)


def streamed_from(data: Path, out: Path, directory: Path) -> pl.DataFrame:
    stream = Stream(spec(), data, directory, "key", step_rows=200)
    report = assemble(spec(), data, out, stream=stream)
    assert report.log is not None
    assert report.log.accounted == report.log.lines
    return pl.read_parquet(out / "samples.parquet")
