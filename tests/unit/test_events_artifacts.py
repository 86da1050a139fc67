"""A full disk or an interruption leaves the last good table; the report is readable and says what is simulated."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from onehull.errors import ArtifactError
from onehull.events import assemble, read_report, report_table
from onehull.spec import Spec, load_spec
from onehull.world import simulate

DOCUMENT: dict[str, Any] = {
    "name": "test",
    "data": {"samples": "samples.parquet", "split": {"by": "random", "validation": 0.2, "test": 0.2}},
    "features": {"noise": {"kind": "numeric"}},
    "tasks": {"click": {"kind": "binary", "label": "click"}},
}


def write_samples(directory: Path, rows: int) -> Spec:
    random = np.random.default_rng(0)
    noise, click = random.random(rows), random.random(rows) < 0.5
    pl.DataFrame({"noise": noise, "click": click}).write_parquet(directory / "samples.parquet")
    return load_spec(DOCUMENT)


LIMITED = """
    import json, resource, signal, sys
    from pathlib import Path
    from onehull.errors import ArtifactError
    from onehull.events import assemble
    from onehull.spec import load_spec

    document, directory = json.loads(sys.argv[1]), Path(sys.argv[2])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        assemble(load_spec(document), directory, directory / "out")
    except ArtifactError as error:
        print(error)
        sys.exit(7)
"""


def test_a_table_too_large_for_the_disk_leaves_the_last_good_one(tmp_path: Path):
    spec = write_samples(tmp_path, 100)
    assemble(spec, tmp_path, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    write_samples(tmp_path, 200_000)
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), json.dumps(DOCUMENT), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 7, ended.stderr
    assert "out cannot be written" in ended.stdout
    assert "What stood there before is intact" in ended.stdout
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounting a small disk needs root on Linux")
def test_a_full_disk_leaves_the_last_good_table(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        assemble(write_samples(tmp_path, 100), tmp_path, disk / "out")
        before = {path.name: path.read_bytes() for path in (disk / "out").iterdir()}
        spec = write_samples(tmp_path, 200_000)
        with pytest.raises(ArtifactError, match=r"No space left.*What stood there before is intact"):
            assemble(spec, tmp_path, disk / "out")
        assert {path.name: path.read_bytes() for path in (disk / "out").iterdir()} == before
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_killed_run_leaves_the_last_good_table(tmp_path: Path):
    """The process is killed from inside, after the table has been written and before it takes its place."""
    spec = write_samples(tmp_path, 100)
    assemble(spec, tmp_path, tmp_path / "out")
    before = (tmp_path / "out" / "samples.parquet").read_bytes()
    write_samples(tmp_path, 200)
    script = """
        import json, os, signal, sys
        from pathlib import Path
        import onehull.events
        from onehull.spec import load_spec

        def die(*_, **__):
            os.kill(os.getpid(), signal.SIGKILL)

        room = sys.modules["onehull.events.assemble"]  # the package's attribute of this name is the function
        room._report = die
        room.assemble(load_spec(json.loads(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[2]) / "out")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), json.dumps(DOCUMENT), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert (tmp_path / "out" / "samples.parquet").read_bytes() == before
    assert assemble(spec, tmp_path, tmp_path / "out").rows == 200
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "quarantine.jsonl",
        "report.json",
        "samples.parquet",
    ]


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path):
    spec = write_samples(tmp_path, 100)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="file/out cannot be written"):
        assemble(spec, tmp_path, tmp_path / "file" / "out")


def test_the_report_is_read_back_and_absent_ones_name_the_command(tmp_path: Path):
    report = assemble(write_samples(tmp_path, 100), tmp_path, tmp_path / "out")
    assert read_report(tmp_path / "out") == report
    with pytest.raises(ArtifactError, match="onehull assemble"):
        read_report(tmp_path)


def feed_spec() -> Spec:
    return load_spec(
        {
            "name": "feed",
            "data": {
                "events": {"impressions": "impressions-*.jsonl", "feedback": "feedback-*.jsonl"},
                "tables": {
                    "user": {"path": "users.jsonl", "key": "user"},
                    "item": {"path": "items.jsonl", "key": "item"},
                },
                "split": {"by": "time", "validation": "1d", "test": "1d"},
            },
            "features": {
                "age_group": {"kind": "categorical"},
                "tags": {"kind": "list"},
                "hour": {"kind": "categorical"},
            },
            "tasks": {
                "click": {"kind": "binary", "event": "click", "window": "30m"},
                "watch": {
                    "kind": "regression",
                    "event": "watch",
                    "value": "value",
                    "window": "2h",
                    "observed_when": "click",
                },
                "purchase": {"kind": "binary", "event": "purchase", "window": "12h"},
            },
        }
    )


def test_the_books_of_a_simulated_log_agree_with_what_the_simulation_put_in(tmp_path: Path):
    world = simulate(tmp_path, users=300, items=100, days=5, seed=4)
    told: list[tuple[str, float]] = []
    report = assemble(feed_spec(), tmp_path, tmp_path / "out", progress=lambda what, share: told.append((what, share)))
    log, put_in = report.log, world.delivered
    assert log is not None
    assert log.accounted == log.lines
    assert log.impressions == report.rows == world.impressions
    assert log.impression_duplicates == put_in["impressions duplicate"]
    rejected = log.quarantined["malformed"] + log.quarantined["wrong_type"]
    assert rejected == put_in["impressions broken"] + put_in["feedback broken"]
    assert log.quarantined["no_impression"] == put_in["orphan"]
    assert (log.feedback_by_kind["click"], log.feedback_by_kind["watch"]) == (put_in["click"], put_in["watch"])
    assert log.unused["like"] >= put_in["like"]
    on_open_windows = log.feedback_by_kind["click"] - (report.tasks["click"].positive or 0)
    assert 0 <= on_open_windows <= report.tasks["click"].missing
    assert report.tasks["purchase"].missing > report.tasks["click"].missing > 0
    assert told[0][0] == "reading the log"
    assert all(0 <= share <= 1 for _, share in told)


def test_what_is_simulated_says_so(tmp_path: Path):
    simulate(tmp_path, users=300, items=100, days=5, seed=4)
    report = assemble(feed_spec(), tmp_path, tmp_path / "out")
    assert report.simulated is not None
    assert "300 users" in report.simulated
    assert "seed 4" in report.simulated
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(report_table(report))
    console.file.close()
    text = console.export_text()
    for part in ("Simulated data", "click", "purchase", "all lines", "quarantined: no_impression"):
        assert part in text
