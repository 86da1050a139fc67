from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

from onehull.errors import ArtifactError
from onehull.serve.event_log import EventLog
from onehull.serve.requests import read_events

MONDAY = datetime(2026, 1, 5, 23, 59, tzinfo=UTC)
TUESDAY = datetime(2026, 1, 6, 0, 1, tzinfo=UTC)


def click(number=1):
    return read_events({"event": "click", "impression": f"x{number}"})


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_day_is_a_file(tmp_path):
    log = EventLog(tmp_path)
    log.feedback(click(1), MONDAY)
    log.feedback(click(2), TUESDAY)
    log.feedback(click(3), TUESDAY)
    log.close()
    assert [line["impression"] for line in lines(tmp_path / "feedback-2026-01-05.jsonl")] == ["x1"]
    assert [line["impression"] for line in lines(tmp_path / "feedback-2026-01-06.jsonl")] == ["x2", "x3"]


def test_a_line_without_its_end_is_cut_off_at_the_start(tmp_path):
    path = tmp_path / "feedback-2026-01-05.jsonl"
    path.write_bytes(b'{"event":"click","impression":"x0"}\n{"event":"cli')
    (tmp_path / "impressions-2026-01-05.jsonl").write_bytes(b"x" * 200_000)
    log = EventLog(tmp_path)
    log.feedback(click(), MONDAY)
    log.close()
    assert [line["impression"] for line in lines(path)] == ["x0", "x1"]
    assert (tmp_path / "impressions-2026-01-05.jsonl").read_bytes() == b""


def test_a_write_that_fails_half_way_leaves_no_half_line(tmp_path, monkeypatch):
    log = EventLog(tmp_path)
    log.feedback(click(1), MONDAY)
    real = os.write

    def half(file, data):
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return real(file, data[:20])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space left"):
        log.feedback(click(2), MONDAY)
    monkeypatch.undo()
    log.feedback(click(3), MONDAY)
    log.close()
    assert [line["impression"] for line in lines(tmp_path / "feedback-2026-01-05.jsonl")] == ["x1", "x3"]


def test_threads_write_whole_lines(tmp_path):
    log = EventLog(tmp_path)

    def write(worker):
        for number in range(20):
            log.feedback(click(f"{worker}-{number}"), MONDAY)

    workers = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    log.close()
    written = {line["impression"] for line in lines(tmp_path / "feedback-2026-01-05.jsonl")}
    assert written == {f"x{w}-{n}" for w in range(8) for n in range(20)}


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from onehull.serve.event_log import EventLog;"
        "from onehull.serve.requests import read_events; log = EventLog(Path(sys.argv[1]));"
        "log.feedback(read_events({'event': 'click', 'impression': 'x1'})); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    log = EventLog(tmp_path)  # a lock file that a killed service left is no obstacle
    log.close()
    (path,) = tmp_path.glob("feedback-*.jsonl")
    assert lines(path)[0]["impression"] == "x1"


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="events cannot be written"):
        EventLog(tmp_path / "file" / "events")
