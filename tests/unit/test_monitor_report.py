"""The data report: counts that add up, labels by day, delays, drift; and what of the user's stands in its page."""

import io
import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from onehull.errors import ArtifactError
from onehull.events import assemble
from onehull.monitor import (
    DataReport,
    data_report,
    data_report_table,
    guard,
    read_data_report,
    write_data_report,
)
from onehull.monitor.delays import feedback_delays
from onehull.monitor.drift import drift, jensen_shannon, psi
from onehull.monitor.page import render_page
from onehull.monitor.periods import label_periods
from onehull.spec import Spec, load_spec
from onehull.world import ensure_world

ROOT = Path(__file__).parents[2]
START = datetime(2026, 3, 1, tzinfo=UTC)


def feed_spec(features: dict | None = None, **tasks: dict) -> Spec:
    return load_spec(
        {
            "name": "feed",
            "data": {
                "events": {"impressions": "log*.jsonl", "feedback": "log*.jsonl"},
                "split": {"by": "random", "validation": 0.2, "test": 0.2},
            },
            "features": features or {"device": {"kind": "categorical"}},
            "tasks": tasks or {"click": {"kind": "binary", "event": "click", "window": "10m"}},
        }
    )


def samples_of(directory: Path, times: list, **columns: list) -> Path:
    """A samples table with the task `click`, which nobody knows of a third of the rows."""
    rows = len(times)
    frame = pl.DataFrame(
        {
            "sample": [str(n) for n in range(rows)],
            "split": ["test" if n % 5 == 4 else "train" for n in range(rows)],
            "time": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
            "y.click": [None if n % 3 == 2 else float(n % 2) for n in range(rows)],
            **columns,
        }
    )
    frame.write_parquet(directory / "samples.parquet")
    return directory / "samples.parquet"


@pytest.fixture(scope="module")
def world_report(tmp_path_factory) -> tuple[Path, DataReport]:
    directory = tmp_path_factory.mktemp("world")
    ensure_world(directory / "world", users=150, items=80, days=4, seed=3)
    spec = load_spec(ROOT / "recipes" / "video_feed.yaml")
    assemble(spec, directory / "world", directory)
    leaks = guard(spec, directory / "samples.parquet", directory / "world")
    return directory, data_report(spec, directory / "world", directory, leaks)


def test_the_simulated_world_has_no_leak(world_report):
    assert not world_report[1].leakage.findings


def test_every_stage_is_the_one_before_less_what_it_left_behind(world_report):
    _, report = world_report
    stages = report.stages
    assert [stage.name for stage in stages] == [
        "lines of the log", "events that count", "impressions", "samples", "training rows",
    ]  # fmt: skip
    for stage, following in pairwise(stages):
        assert stage.count - sum(stage.left.values()) == following.count
    assert any(name.startswith("rejected: ") for name in stages[0].left)


def test_rows_and_labels_by_day_are_those_of_the_samples(world_report):
    directory, report = world_report
    samples = pl.read_parquet(directory / "samples.parquet")
    assert report.by == "day"
    assert sum(period.rows for period in report.periods) == len(samples)
    second = report.periods[1]
    rows = samples.filter(pl.col("time").dt.date() == date.fromisoformat(second.name))
    assert second.rows == len(rows)
    assert second.tasks["like"].known == rows["y.like"].count()
    assert second.tasks["like"].mean == pytest.approx(rows["y.like"].mean())
    assert second.tasks["watch"].deviation == pytest.approx(rows["y.watch"].std(ddof=0))


def test_rejected_lines_have_their_reason_and_examples(world_report):
    directory, report = world_report
    lines = (directory / "quarantine.jsonl").read_text().splitlines()
    assert sum(one.count for one in report.rejected) == len(lines)
    counts = [one.count for one in report.rejected]
    assert counts == sorted(counts, reverse=True)
    for one in report.rejected:
        assert len(one.examples) == min(3, one.count)
    assert json.loads(lines[0])["raw"] in {example.raw for one in report.rejected for example in one.examples}


def test_the_same_report_gives_the_same_bytes_and_is_read_back(world_report, tmp_path: Path):
    _, report = world_report
    write_data_report(report, tmp_path)
    page = (tmp_path / "data_report.html").read_bytes()
    write_data_report(report, tmp_path)
    assert (tmp_path / "data_report.html").read_bytes() == page
    assert read_data_report(tmp_path) == report
    assert page.count(b"<svg") == 1 + 2 + 4 + 4  # left behind, rows, missing, rates, delays


def test_a_report_that_is_not_there_says_how_it_is_made(tmp_path: Path):
    with pytest.raises(ArtifactError, match="onehull assemble"):
        read_data_report(tmp_path)


@pytest.mark.parametrize(
    ("days", "by", "first"), [(30, "day", "2026-03-01"), (300, "week", "2026-02-23"), (1500, "month", "2026-03-01")]
)
def test_long_logs_are_shown_by_week_or_month(tmp_path: Path, days: int, by: str, first: str):
    path = samples_of(tmp_path, [START + timedelta(days=n) for n in range(days)])
    found, periods = label_periods(path, ["click"])
    assert found == by
    assert periods[0].name == first
    assert len(periods) <= 100
    assert sum(period.rows for period in periods) == days


def test_rows_without_a_time_are_shown_by_part(tmp_path: Path):
    by, periods = label_periods(samples_of(tmp_path, [None] * 50), ["click"])
    assert by == "part"
    assert [(period.name, period.rows) for period in periods] == [("train", 40), ("test", 10)]


def test_psi_and_jensen_shannon_of_known_shares():
    first, last = np.array([500.0, 500.0]), np.array([900.0, 100.0])
    # (0.9 - 0.5) ln(0.9 / 0.5) + (0.1 - 0.5) ln(0.1 / 0.5); half a row a bin hardly moves it.
    assert psi(first, last) == pytest.approx(0.8789, abs=0.003)
    assert jensen_shannon(first, last) == pytest.approx(0.1468, abs=0.001)
    assert psi(first, first) == 0.0
    assert jensen_shannon(np.array([1e6, 0.0]), np.array([0.0, 1e6])) == pytest.approx(1.0, abs=1e-4)


def drift_spec(features: dict) -> Spec:
    return load_spec(
        {
            "name": "drift",
            "data": {"samples": "s", "split": {"by": "random", "validation": 0.1, "test": 0.1}},
            "features": features,
            "tasks": {"click": {"kind": "binary", "label": "c"}},
        }
    )


def test_drift_names_what_moved_and_chance_is_no_drift(tmp_path: Path):
    random = np.random.default_rng(0)
    rows = 4000
    times = [START + timedelta(hours=n * 96 / rows) for n in range(rows)]
    last = np.array([time.day == 4 for time in times])
    columns = {
        "x.same": random.normal(size=rows).tolist(),
        "x.moved": (random.normal(size=rows) + 2 * last).tolist(),
        "x.id": [("new" if late and n % 2 else f"id{n % 7}") for n, late in enumerate(last)],
        "x.gone": [None if late and n % 3 else "here" for n, late in enumerate(last)],
        "x.bag": [["a", "b"] if n % 2 else [] for n in range(rows)],
        "x.vector": pl.Series([[0.0, float(late), 1.0] for late in last], dtype=pl.List(pl.Float32)),
    }
    features = {
        "same": {"kind": "numeric"},
        "moved": {"kind": "numeric"},
        "id": {"kind": "categorical"},
        "gone": {"kind": "categorical"},
        "bag": {"kind": "list"},
        "vector": {"kind": "vector", "size": 3},
    }
    found = drift(drift_spec(features), samples_of(tmp_path, times, **columns))
    assert found is not None
    assert (found.first, found.last) == ("2026-03-01", "2026-03-04")
    by_name = {one.feature: one for one in found.features}
    assert {name for name, one in by_name.items() if one.drifted} == {"moved", "id", "gone", "vector"}
    assert by_name["same"].psi < 3 * by_name["same"].by_chance
    assert by_name["vector"].coordinate == 1
    assert by_name["id"].moved[0].value == "'new'"
    assert by_name["id"].moved[0].last == pytest.approx(0.5, abs=0.01)
    assert {move.value for move in by_name["gone"].moved} == {"missing", "'here'"}
    assert by_name["moved"].moved[0].value.startswith("above ")
    assert [one.psi for one in found.features] == sorted((one.psi for one in found.features), reverse=True)


def test_days_with_a_few_rows_are_not_compared(tmp_path: Path):
    times = [START + timedelta(days=1, minutes=n) for n in range(2000)]
    times += [START + timedelta(days=3, minutes=n / 2) for n in range(2000)]
    times = [START, *times, START + timedelta(days=9)]
    path = samples_of(tmp_path, times, **{"x.a": ["v"] * len(times)})
    found = drift(drift_spec({"a": {"kind": "categorical"}}), path)
    assert found is not None
    assert (found.first, found.last) == ("2026-03-02", "2026-03-04")


def test_one_day_has_no_drift_and_rows_without_time_are_compared_by_part(tmp_path: Path):
    spec = drift_spec({"a": {"kind": "categorical"}})
    column = {"x.a": ["v"] * 200}
    assert drift(spec, samples_of(tmp_path, [START + timedelta(minutes=n) for n in range(200)], **column)) is None
    found = drift(spec, samples_of(tmp_path, [None] * 200, **column))
    assert found is not None
    assert (found.first, found.last, found.rows_last) == ("train", "test", 40)


def event(kind: str, at: float, **fields: object) -> str:
    return json.dumps({"event": kind, "time": START.timestamp() + at, **fields})


def test_delays_are_those_of_the_log(tmp_path: Path):
    lines = [event("impression", n, id=f"i{n}", user="u", item="v", context={"device": "d"}) for n in range(100)]
    # Ten seconds after the first, eleven after the second, and so on; three after the window of ten minutes.
    lines += [event("click", n + 10 + n, impression=f"i{n}") for n in range(50)]
    lines += [event("click", n + 700, impression=f"i{n}") for n in range(50, 53)]
    lines += [
        event("click", 3, impression="i3"),
        event("click", 60, impression="nobody"),
        event("other", 9, impression="i1"),
    ]
    lines += [
        event("click", 10, impression="i0"),
        '{"event": "click", "time"',
        '{"event": "click", "time": 1e300, "impression": "i1"}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    spec = feed_spec()
    assemble(spec, tmp_path, tmp_path)
    (delay,), share = feedback_delays(spec, tmp_path, tmp_path / "samples.parquet")
    assert share == 1.0
    assert (delay.window_s, delay.events, delay.after) == (600.0, 51, 3)
    assert (delay.seconds[0], delay.seconds[-1]) == (0.0, 59.0)
    assert delay.seconds[len(delay.seconds) // 2] == pytest.approx(34, abs=1)


def test_of_a_large_log_a_part_of_the_feedback_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = [event("impression", n, id=f"i{n}", user="u", item="v", context={"device": "d"}) for n in range(2000)]
    lines += [event("click", n + 5, impression=f"i{n}") for n in range(2000)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    assemble(feed_spec(), tmp_path, tmp_path)
    monkeypatch.setattr("onehull.monitor.delays._LINES", 1000)
    (delay,), share = feedback_delays(feed_spec(), tmp_path, tmp_path / "samples.parquet")
    assert share == 0.25
    assert delay.events == 500
    assert set(delay.seconds) == {5.0}


def hostile(directory: Path) -> DataReport:
    """Ids, values and broken lines that are markup."""
    evil = "<script>alert(1)</script>[red]$x_1$"
    lines = [
        event(
            "impression",
            n * 900,
            id=f"i{n}{evil}",
            user=evil,
            item=f"{evil}{n % 9}",
            context={"device": evil if n > 300 else "d"},
        )
        for n in range(600)
    ]
    lines += [event("click", n * 900 + 5, impression=f"i{n}{evil}") for n in range(0, 600, 3)]
    lines += ['{"event": "<b>", "time": "<img src=x>"', event("click", 1, impression=evil)]
    (directory / "log.jsonl").write_text("\n".join(lines) + "\n")
    spec = feed_spec()
    assemble(spec, directory, directory)
    return data_report(spec, directory, directory, guard(spec, directory / "samples.parquet", directory))


def test_texts_of_the_user_are_escaped(tmp_path: Path):
    report = hostile(tmp_path)
    page = render_page(report)
    assert "<script" not in page
    assert "<img" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)" in page
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(data_report_table(report))
    assert "[red]$x_1$" in console.export_text()


def test_the_terminal_shows_every_table(world_report):
    _, report = world_report
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(data_report_table(report))
    text = console.export_text()
    for heading in ("From the raw input to rows", "Label rates by day", "Missing labels by day", "Delays of feedback"):
        assert heading in text
    assert "What single features tell of like" in text
    assert "Drift from 2026-01-05 to 2026-01-08" in text
    assert "Simulated data" in text


def test_a_streamed_log_begins_with_what_the_broker_delivered(tmp_path: Path):
    from onehull.events.stream import Stream
    from onehull.streams.admission import Admission, Limits
    from onehull.streams.draft import Draft
    from onehull.streams.segments import SegmentChain

    draft, admission = Draft("topic/0", 0, 0), Admission(Limits())
    for number in range(60):
        moment = START.timestamp() + 60 * number
        shown = {"event": "impression", "id": f"i{number}", "time": moment, "context": {"device": "phone"}}
        click = {"event": "click", "impression": f"i{number}", "time": moment + 1 + number % 7}
        for event in (shown, click) if number % 2 else (shown,):
            draft.add(draft.next, json.dumps(event).encode(), admission, START.timestamp() + 86400)
    draft.add(draft.next, b"not JSON", admission, START.timestamp())
    orphan = {"event": "click", "impression": "<nobody>", "time": START.timestamp()}
    draft.add(draft.next, json.dumps(orphan).encode(), admission, START.timestamp() + 86400)
    draft.append_to(SegmentChain(tmp_path / "topic" / "0"))
    document = feed_spec().model_dump(mode="json")
    path = "*/*/[0-9]*/events.jsonl"
    document["data"]["events"] = {"impressions": path, "feedback": path, "lateness": "1m"}
    spec = load_spec(document)
    assemble(spec, tmp_path, tmp_path / "out", stream=Stream(spec, tmp_path, tmp_path / "stream", "key"))
    report = data_report(spec, tmp_path, tmp_path / "out", guard(spec, tmp_path / "out" / "samples.parquet", tmp_path))
    messages, lines = report.stages[0], report.stages[1]
    assert (messages.name, messages.count, messages.left) == ("messages of the broker", 92, {"refused: malformed": 1})
    assert lines.count == 91
    assert [(one.reason, one.count) for one in report.rejected] == [("no_impression", 1)]
    assert "&lt;nobody&gt;" in render_page(report)
    assert report.delays[0].events == 30
