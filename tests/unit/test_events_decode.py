"""Lines of a log: what is read, what goes to quarantine and why, and files that end in the middle."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from onehull.errors import DataError
from onehull.events import assemble
from onehull.spec import Spec, load_spec

FEATURES = {
    "hour": {"kind": "numeric"},
    "device": {"kind": "categorical"},
    "recent": {"kind": "list"},
    "words": {"kind": "list", "separator": "|"},
    "view": {"kind": "vector", "size": 2},
}
T = "2026-01-05T10:00:00Z"


def spec(features: dict | None = None) -> Spec:
    return load_spec(
        {
            "name": "test",
            "data": {
                "events": {"impressions": "i*", "feedback": "f*"},
                "split": {"by": "column", "column": "part", "validation": [1], "test": [2]},
            },
            "features": features or FEATURES,
            "tasks": {
                "click": {"kind": "binary", "event": "click", "window": "1m"},
                "watch": {"kind": "regression", "event": "watch", "value": "seconds", "window": "1m"},
                "stars": {"kind": "multiclass", "event": "stars", "classes": 3, "value": "seconds", "window": "1m"},
            },
        }
    )


def shown(name: object, time: object = T, **context: object) -> dict:
    return {
        "event": "impression",
        "id": name,
        "time": time,
        "user": "u",
        "item": "v",
        "context": {"part": 0, **context},
    }


ALL = {"hour": 1, "device": "d", "recent": ["a"], "words": "a|b", "view": [1, 2]}
BASE = [shown("train", **ALL), shown("validation", **{**ALL, "part": 1}), shown("test", **{**ALL, "part": 2})]


def write(directory: Path, impressions: list, feedback: list = (), name: str = "i.jsonl") -> None:  # type: ignore[assignment]
    def text(event: object) -> bytes:
        return event if isinstance(event, bytes) else json.dumps(event).encode()

    (directory / name).write_bytes(b"\n".join(map(text, impressions)) + b"\n")
    (directory / "f.jsonl").write_bytes(b"".join(text(event) + b"\n" for event in feedback))


def run(directory: Path, impressions: list, feedback: list = ()):  # type: ignore[assignment]
    write(directory, BASE + impressions, feedback)
    report = assemble(spec(), directory, directory / "out")
    text = (directory / "out" / "quarantine.jsonl").read_text()
    rejected = [json.loads(line) for line in text.splitlines()]
    return pl.read_parquet(directory / "out" / "samples.parquet"), report.log, rejected


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b'{"event": "impression", "id": "i1", "ti', "malformed", "truncated"),
        (b'{"event": "impression", "id": "\xff\xfe", "time": 5}', "malformed", "utf-8"),
        (b"[1, 2]", "wrong_type", "Expected `object`"),
        (b"not json", "malformed", "invalid"),
        (shown("i1", True), "wrong_type", "$.time"),
        (shown("i1", "yesterday"), "wrong_type", "$.time"),
        ({"event": "impression", "id": "i1"}, "wrong_type", "missing required field `time`"),
        (shown(["i1"]), "wrong_type", "$.id"),
        (shown("i1", hour="noon"), "wrong_type", "$.context.hour"),
        (shown("i1", recent="a"), "wrong_type", "$.context.recent"),
        (shown("i1", view=[1, 2, 3]), "wrong_type", "$.context.view"),
        (shown("i1", 1_767_607_200_000), "time_out_of_range", "1970"),
        (shown("i1", -5), "time_out_of_range", "1970"),
        (shown(None), "no_id", "id"),
        (shown(""), "no_id", "id"),
        (b'{"event": "impression", "id": "i1", "time": NaN}', "malformed", "invalid"),
        (b'{"event": "impression", "id": "i1", "time": 1e999}', "wrong_type", "out of range"),
    ],
)
def test_an_impression_that_cannot_be_used_is_put_aside_with_its_reason(tmp_path: Path, line, reason, detail):
    samples, log, rejected = run(tmp_path, [line])
    assert len(samples) == 3
    assert log.quarantined == {reason: 1}
    assert log.accounted == log.lines == 4
    assert (rejected[0]["file"], rejected[0]["line"], rejected[0]["reason"]) == ("i.jsonl", 4, reason)
    assert detail in rejected[0]["detail"]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"event": "click", "time": T}, "no_id"),
        ({"event": "watch", "impression": "train", "time": T}, "bad_value"),
        ({"event": "watch", "impression": "train", "time": T, "seconds": "long"}, "bad_value"),
        ({"event": "watch", "impression": "train", "time": T, "seconds": True}, "bad_value"),
        ({"event": "watch", "impression": "train", "time": T, "seconds": 10**400}, "bad_value"),
        ({"event": "stars", "impression": "train", "time": T, "seconds": 3}, "bad_value"),
        ({"event": "stars", "impression": "train", "time": T, "seconds": 1.5}, "bad_value"),
    ],
)
def test_feedback_that_no_task_can_use_is_put_aside(tmp_path: Path, event, reason):
    _, log, rejected = run(tmp_path, [], [event])
    assert log.quarantined == {reason: 1}
    assert log.feedback == 0
    assert rejected[0]["file"] == "f.jsonl"
    assert log.accounted == log.lines


def test_feedback_that_no_task_reads_is_counted_by_kind_whatever_it_holds(tmp_path: Path):
    events = [{"event": "comment", "impression": "train", "time": T, "seconds": "nice", "more": {"a": 1}}] * 2
    _, log, rejected = run(tmp_path, [], events)
    assert (log.unused, rejected) == ({"comment": 2}, [])
    assert log.accounted == log.lines


def test_context_becomes_features_and_ids_become_text(tmp_path: Path):
    given = shown(7.0, hour=True, device=3, recent=["a", 1.0, None, "", True], words="x| y||z", view=[0.5, -1])
    empty = shown("8", hour=None, device="", recent=[], words="", view=None)
    bare = {"event": "impression", "id": "9", "time": T, "context": {"part": 0}}
    samples, log, _ = run(tmp_path, [given, empty, bare])
    rows = {row["sample"]: row for row in samples.iter_rows(named=True)}
    values = {name: tuple(rows[name][f"x.{feature}"] for feature in FEATURES) for name in ("7", "8", "9")}
    assert values["7"] == (1.0, "3", ["a", "1", "true"], ["x", "y", "z"], [0.5, -1.0])
    assert values["8"] == (None, None, [], None, None)
    assert values["9"] == (None,) * 5
    assert (rows["9"]["user"], rows["9"]["item"]) == (None, None)
    assert log.quarantined == {}


def test_times_are_iso_text_with_or_without_an_offset_or_seconds(tmp_path: Path):
    times = ["2026-01-05T10:00:00.25Z", "2026-01-05T12:00:00+02:00", "2026-01-05T10:00:00", 1_767_607_200.5]
    samples, _, _ = run(tmp_path, [shown(f"i{n}", time) for n, time in enumerate(times)])
    found = samples.sort("sample").filter(pl.col("sample").str.starts_with("i"))["time"].dt.epoch("us").to_list()
    assert found == [1_767_607_200_000_000 + offset for offset in (250_000, 0, 0, 500_000)]


def test_gzip_blank_lines_byte_order_marks_and_windows_line_ends_are_read(tmp_path: Path):
    write(tmp_path, BASE)
    text = b"\xef\xbb\xbf" + b"\r\n\r\n".join(json.dumps(event).encode() for event in BASE) + b"\r\n"
    (tmp_path / "i.jsonl").unlink()
    (tmp_path / "i.jsonl.gz").write_bytes(gzip.compress(text))
    report = assemble(spec(), tmp_path, tmp_path / "out")
    assert report.rows == 3
    assert report.log is not None
    assert (report.log.blank, report.log.quarantined) == (2, {})


@pytest.mark.parametrize("damage", [lambda data: data[:-12], lambda data: data[:40] + b"\0\0\0\0" + data[44:]])
def test_a_damaged_gzip_is_refused_and_leaves_no_artifact(tmp_path: Path, damage):
    write(tmp_path, BASE)
    (tmp_path / "i.jsonl").unlink()
    lines = b"".join(json.dumps(shown(f"x{n}")).encode() + b"\n" for n in range(500))
    (tmp_path / "i.jsonl.gz").write_bytes(damage(gzip.compress(lines)))
    with pytest.raises(DataError, match=r"i\.jsonl\.gz.*damaged or cut off.*Deliver the file again"):
        assemble(spec({"user": {"kind": "categorical"}}), tmp_path, tmp_path / "out")
    assert list(tmp_path.glob("out/*")) == []


def test_a_context_field_that_two_features_read_serves_both(tmp_path: Path):
    features = {"hour": {"kind": "numeric"}, "hour_id": {"kind": "categorical", "column": "hour"}}
    write(tmp_path, BASE)
    assemble(spec(features), tmp_path, tmp_path / "out")
    row = pl.read_parquet(tmp_path / "out" / "samples.parquet").row(0, named=True)
    assert (row["x.hour"], row["x.hour_id"]) == (1.0, "1")


def test_a_long_line_is_shortened_in_the_quarantine(tmp_path: Path):
    _, _, rejected = run(tmp_path, [b'{"event": "' + b"x" * 10_000])
    assert len(rejected[0]["raw"]) < 400
    assert rejected[0]["raw"].endswith("…")
