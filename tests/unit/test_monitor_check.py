"""Leaks stop `check` and `assemble`, on event logs and on tables, whole or in part."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from onehull.cli.app import build_app
from onehull.errors import DataError, SpecError
from onehull.events import assemble as assemble_events
from onehull.monitor import assemble_part, guard, read_data_report
from onehull.pipeline import Project, assemble, check
from onehull.spec import load_spec, read_document
from onehull.world import ensure_world

ROOT = Path(__file__).parents[2]


def document(**features: dict) -> dict:
    """The recipe of the simulated feed with further features of the moment."""
    found = json.loads(json.dumps(read_document(ROOT / "recipes" / "video_feed.yaml")))
    found["features"] |= features
    return found


def labelled_world(directory: Path, context: Callable[[bool, np.random.Generator], dict]) -> Path:
    """A world whose impressions carry something that depends on whether a click will come."""
    ensure_world(directory, users=120, items=60, days=4, seed=5)
    random = np.random.default_rng(0)
    clicked = {
        json.loads(line)["impression"]
        for path in directory.glob("feedback-*.jsonl")
        for line in path.read_text().splitlines()
        if '"click"' in line and line.endswith("}")
    }
    known: dict[str, dict] = {}
    for path in directory.glob("impressions-*.jsonl"):
        lines = path.read_text().splitlines()
        for place, line in enumerate(lines):
            if line.endswith("}}"):
                event = json.loads(line)
                # A line that is delivered again says the same.
                added = known.setdefault(event["id"], context(event["id"] in clicked, random))
                lines[place] = json.dumps({**event, "context": {**event["context"], **added}})
        path.write_text("\n".join(lines) + "\n")
    return directory


def copied(click: bool, random: np.random.Generator) -> dict:
    noisy = click != (random.random() < 0.003)
    return {
        "copy": int(click),
        "noisy": 3.0 * noisy + random.normal() / 10,
        "word": "opened" if click else "passed",
        "reached": random.normal() if click or random.random() < 0.1 else None,
        "noise": random.normal(),
        "lot": f"l{random.integers(3000)}",
    }


FEATURES = {
    "copy": {"kind": "numeric"},
    "noisy": {"kind": "numeric"},
    "word": {"kind": "categorical"},
    "reached": {"kind": "numeric"},
    "noise": {"kind": "numeric"},
    "lot": {"kind": "categorical"},
}


@pytest.fixture(scope="module")
def leaking_world(tmp_path_factory) -> Path:
    return labelled_world(tmp_path_factory.mktemp("leaking"), copied)


def test_check_names_every_leak_of_an_event_log(leaking_world: Path):
    with pytest.raises(SpecError) as raised:
        check(document(**FEATURES), data=leaking_world)
    assert {fault.place for fault in raised.value.faults} == {
        f"features.{name}" for name in ("copy", "noisy", "word", "reached")
    }
    assert "AUC" in str(raised.value)
    assert "missing in" in str(raised.value)
    assert check(document(noise=FEATURES["noise"], lot=FEATURES["lot"]), data=leaking_world).name == "video_feed"


def test_check_warns_where_it_is_shown(leaking_world: Path):
    console = Console(width=60, record=True, file=io.StringIO())
    check(document(copy=FEATURES["copy"]) | {"leakage": {"allowed": ["copy"]}}, data=leaking_world, console=console)
    assert "! features.copy tells much of a label by itself: AUC 1.0000 for task click" in console.export_text()


def test_assemble_refuses_and_keeps_nothing(leaking_world: Path, tmp_path: Path):
    project = Project.open(load_spec(document(copy=FEATURES["copy"])), data=leaking_world, out=tmp_path / "out")
    with pytest.raises(DataError, match=r"features\.copy must not tell a label by itself: AUC 1\.0000 for task click"):
        assemble(project)
    assert not project.samples.exists()
    allowed = load_spec(document(copy=FEATURES["copy"]) | {"leakage": {"allowed": ["copy"]}})
    assemble(project.with_spec(allowed))
    report = read_data_report(project.samples.parent)
    assert [(finding.feature, finding.level) for finding in report.leakage.findings] == [("copy", "allowed")]
    assert "Allowed by leakage.allowed" in (project.samples.parent / "data_report.html").read_text()


def test_a_part_of_a_log_has_the_labels_of_the_whole(leaking_world: Path, tmp_path: Path):
    spec = load_spec(document())
    assemble_events(spec, leaking_world, tmp_path / "whole")
    whole = pl.read_parquet(tmp_path / "whole" / "samples.parquet").drop("split")
    part = pl.read_parquet(assemble_part(spec, leaking_world, tmp_path / "part", 1500)).drop("split")
    assert 1300 < len(part) < 1700
    assert part["time"].dt.date().n_unique() == whole["time"].dt.date().n_unique()
    common = part.join(whole, on="sample", how="inner", maintain_order="left", suffix=".whole")
    assert len(common) == len(part)
    for task in spec.tasks:
        known = common.filter(pl.col(f"y.{task}").is_not_null())
        assert len(known)
        assert known[f"y.{task}"].equals(known[f"y.{task}.whole"], check_names=False)
    again = assemble_part(spec, leaking_world, tmp_path / "again", 1500)
    assert pl.read_parquet(again).drop("split").equals(part)


def test_a_small_log_is_assembled_as_it_is(leaking_world: Path, tmp_path: Path):
    spec = load_spec(document())
    part = assemble_part(spec, leaking_world, tmp_path / "part", 10**6)
    assemble_events(spec, leaking_world, tmp_path / "whole")
    assert pl.read_parquet(part).equals(pl.read_parquet(tmp_path / "whole" / "samples.parquet"))


def test_a_part_of_a_table_is_drawn_from_all_of_it(tmp_path: Path):
    rows = 5000
    frame = pl.DataFrame(
        {"n": range(rows), "day": [n // 1000 for n in range(rows)], "y": [n % 3 == 0 for n in range(rows)]}
    )
    frame.write_parquet(tmp_path / "t.parquet")
    spec = load_spec(
        {
            "name": "t",
            "data": {
                "samples": "t.parquet",
                "split": {"by": "column", "column": "day", "validation": [3], "test": [4]},
            },
            "features": {"n": {"kind": "numeric"}},
            "tasks": {"y": {"kind": "binary", "label": "y"}},
        }
    )
    samples = pl.read_parquet(assemble_part(spec, tmp_path, tmp_path / "part", 1000))
    assert len(samples) == 1000
    assert samples["x.n"].is_sorted()
    assert set((samples["x.n"] // 1000).cast(int)) == {0, 1, 2, 3, 4}
    assert guard(spec, tmp_path / "part" / "samples.parquet").rows == 800


def test_the_command_line_says_what_leaks_and_shows_the_report(leaking_world: Path, tmp_path: Path):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(document(word=FEATURES["word"])))
    runner = CliRunner()
    refused = runner.invoke(build_app(), ["check", str(spec), "--data", str(leaking_world)])
    assert isinstance(refused.exception, SpecError)
    assert "features.word" in str(refused.exception)
    spec.write_text(json.dumps(document()))
    where = ["--data", str(leaking_world), "--out", str(tmp_path / "out")]
    done = runner.invoke(build_app(), ["check", str(spec), *where[:2]])
    assert "no fault in the spec and its data" in " ".join(done.output.split())
    absent = runner.invoke(build_app(), ["report", str(spec), *where[2:]])
    assert "onehull assemble" in str(absent.exception)
    assert runner.invoke(build_app(), ["assemble", str(spec), *where]).exit_code == 0
    shown = runner.invoke(build_app(), ["report", str(spec), *where[2:]])
    assert shown.exit_code == 0, shown.output
    assert "From the raw input to rows" in shown.output
    assert "data_report.html" in shown.output
