"""The join on Beam leaves the artifacts of the local one, byte for byte where they are text."""

import gzip
import json
import random
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

pytest.importorskip("apache_beam", reason='apache-beam is not installed: pip install "onehull[beam]"')

from onehull.beam.assemble import BeamJoin, assemble_on_beam
from onehull.errors import DataError, RunnerError
from onehull.events import assemble
from onehull.spec import Spec, load_spec

START = 1_767_607_200  # 2026-01-05T10:00:00Z


def spec(**events: object) -> Spec:
    document = {
        "name": "test",
        "data": {
            "events": {"impressions": "impressions*", "feedback": "feedback*", **events},
            "split": {"by": "random", "validation": 0.2, "test": 0.2},
        },
        "features": {
            "hour": {"kind": "numeric"},
            "tags": {"kind": "list"},
            "who": {"kind": "categorical", "column": "user"},
        },
        "tasks": {
            "click": {"kind": "binary", "event": "click", "window": "60s"},
            "watch": {"kind": "regression", "event": "watch", "value": "value", "window": "120s"},
            "stars": {"kind": "multiclass", "event": "stars", "classes": 3, "value": "value", "window": "120s"},
        },
    }
    return load_spec(document)


def write_log(directory: Path) -> None:
    """A log with everything that delivery does: repeats, contradictions, strays, broken lines, two kinds of files."""
    draw = random.Random(0)
    impressions, feedback = [], []
    for number in range(150):
        time = START + draw.randrange(5000)
        context = {"hour": draw.choice([3, 4.5, None]), "tags": draw.choice([["a", "b"], [], None])}
        shown = {"event": "impression", "id": f"i{number}", "time": time, "user": f"u{number % 7}", "item": "v"}
        impressions += [{**shown, "context": context}] * draw.choice([1, 1, 1, 2])
        if number % 20 == 0:
            impressions.append({**shown, "context": {"hour": 99}})
        for _ in range(draw.randrange(4)):
            kind, delay = draw.choice(["click", "watch", "stars", "share"]), draw.choice([-5, 0, 60, 61, 120, 300])
            event = {
                "event": kind,
                "impression": f"i{draw.choice([number, number, number, 999])}",
                "time": time + delay,
            }
            event["value"] = draw.choice([0, 1, 2, 2.5])
            if draw.random() < 0.5:
                event["id"] = f"f{draw.randrange(60)}"  # the same id for several: the earliest stays
            feedback += [event] * draw.choice([1, 1, 2])
    lines = [json.dumps(event) for event in feedback]
    lines[5:5] = ["", "{", '{"event": "click", "time": "yesterday"}', '{"event": "click", "time": 1, "impression": ""}']
    draw.shuffle(lines)
    text = [json.dumps(event) for event in impressions]
    (directory / "impressions0.jsonl").write_text("\n".join(text[:70]) + "\n")
    with gzip.open(directory / "impressions1.jsonl.gz", "wt") as file:
        file.write("\n".join(text[70:]))
    (directory / "feedback.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("until", [None, "2026-01-05T11:00:00Z"])
def test_samples_report_and_quarantine_are_those_of_the_local_engine(until: str | None, tmp_path: Path):
    write_log(tmp_path)
    document = spec() if until is None else spec(complete_until=until)
    expected = assemble(document, tmp_path, tmp_path / "local")
    assert expected.log is not None
    assert {"no_impression", "before_impression", "malformed", "bad_value"} <= set(expected.log.quarantined)
    assert expected.log.feedback_conflicts
    (tmp_path / "workspace").mkdir()
    engine = BeamJoin(tmp_path / "workspace", partition_bytes=5000)
    assert assemble(document, tmp_path, tmp_path / "beam", engine=engine) == expected
    assert len(list((tmp_path / "workspace").glob("*.parquet"))) > 3
    samples = [pl.read_parquet(tmp_path / engine / "samples.parquet") for engine in ("local", "beam")]
    assert_frame_equal(*samples)
    files = [tmp_path / engine / "quarantine.jsonl" for engine in ("local", "beam")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_one_partition_leaves_nothing_but_the_artifacts(tmp_path: Path):
    write_log(tmp_path)
    assert assemble_on_beam(spec(), tmp_path, tmp_path / "beam") == assemble(spec(), tmp_path, tmp_path / "local")
    names = ["quarantine.jsonl", "report.json", "samples.parquet"]
    assert sorted(path.name for path in (tmp_path / "beam").iterdir()) == names


def test_a_log_without_impressions_and_one_that_is_cut_off_are_refused(tmp_path: Path):
    write_log(tmp_path)
    for path in tmp_path.glob("impressions*"):
        path.unlink()
    unnamed = {"event": "impression", "time": START, "context": {"hour": 1, "tags": []}}
    (tmp_path / "impressions.jsonl").write_text(json.dumps(unnamed) + "\n")
    with pytest.raises(DataError, match=r"no usable impression in \d+ lines of 2 files.*first rejected line"):
        assemble_on_beam(spec(), tmp_path, tmp_path / "beam")
    packed = gzip.compress(b"\n" * 1000)
    (tmp_path / "feedback.jsonl.gz").write_bytes(packed[:-9])
    with pytest.raises(RunnerError, match=r"feedback\.jsonl\.gz: the file is damaged or cut off"):
        assemble_on_beam(spec(), tmp_path, tmp_path / "beam")
    assert not list((tmp_path / "beam").iterdir())
