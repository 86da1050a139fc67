"""Segments, and what becomes a line of them; no broker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime

import pytest
from benchmarks import ingest
from hypothesis import given
from hypothesis import strategies as st

from onehull.errors import ArtifactError, MissingPartError, SpecError
from onehull.files import sync
from onehull.streams.admission import Admission, Admitted, Limits, Refusal
from onehull.streams.draft import Draft
from onehull.streams.ingest import Clock, Notes
from onehull.streams.metrics import IngestMetrics
from onehull.streams.segments import BOOKS_FILE, OvertakenError, SegmentChain, read_books
from onehull.streams.settings import client_settings, confluent_kafka, google_pubsub
from tests.streams import books_of, event, ids, lines, once

NOW = 1_700_100_000.0


def line_of(message, limits=None):
    return Admission(limits or Limits()).line(message, NOW, Admitted())


def draft_of(numbers, first=0):
    draft = Draft("clicks/0", first, first)
    for place, number in enumerate(numbers, start=first):
        draft.add(place, event(number), Admission(Limits()), NOW)
    return draft


DEEP = b'{"event":"a","time":1,"b":' + b"[" * 100_000
REFUSED: dict[str, list[bytes | None]] = {
    "empty": [None, b""],
    "too_big": [event(1, text="x" * (1 << 20))],
    "malformed": [b"{", b"\xff", b'{"event":"a","time":1} x', b'{"event":"a","time":1,"b":"\xc3"}', DEEP],
    "wrong_type": [b"[]", b"1", b"null", b'{"event":1,"time":1}', b'{"event":"a"}', b'{"event":"a","time":"noon"}'],
    "time_out_of_range": [b'{"event":"a","time":-1}', b'{"event":"a","time":1700000000000000}'],
    "from_future": [b'{"event":"a","time":%d}' % (NOW + 3601), b'{"event":"a","time":"2099-01-01T00:00:00Z"}'],
}


@pytest.mark.parametrize(("reason", "message"), [(reason, one) for reason, some in REFUSED.items() for one in some])
def test_a_message_that_no_reader_could_use_is_refused_with_the_reason(reason, message):
    refusal = line_of(message)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, bool(refusal.detail)) == (reason, True)


@pytest.mark.parametrize("time", [0, 1.5, NOW + 3599, "2023-11-14T22:13:20Z", "2023-11-14 22:13:20.5+02:00"])
def test_moments_in_every_form_of_the_schema_are_admitted(time):
    message = json.dumps({"event": "click", "time": time}).encode()
    assert line_of(message) == message


def test_a_pretty_printed_object_becomes_one_line():
    message = json.dumps({"event": "a", "time": 1, "text": "two\nlines", "list": [1, {"b": "ü"}]}, indent=2).encode()
    line = line_of(message)
    assert isinstance(line, bytes)
    assert b"\n" not in line
    assert json.loads(line) == json.loads(message)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_a_line_holds_what_the_message_held_whatever_fields_a_schema_gains(value, indent, ascii_only):
    document = {"event": "click", "time": 1, "new": value}
    line = line_of(json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace"))
    assert isinstance(line, bytes)
    assert len(line.splitlines()) == 1 or b"\n" not in line
    replaced = json.loads(json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "replace"))
    assert json.loads(line) == replaced


def test_a_clock_that_jumps_back_makes_no_event_one_from_the_future(monkeypatch):
    clock = Clock()
    before = clock.now()
    monkeypatch.setattr(time, "time", lambda: before - 7200)
    assert clock.now() == before
    clock.not_before(before + 5)
    assert clock.now() == before + 5


def test_a_draft_counts_every_place_once(tmp_path):
    draft = draft_of(range(3))
    draft.add(1, event(99), Admission(Limits()), NOW)  # delivered again
    draft.add(7, b"poison", Admission(Limits()), NOW)  # 3 to 6 were compacted away
    draft.append_to(SegmentChain(tmp_path / "clicks" / "0"))
    draft_of([5], first=8).append_to(SegmentChain(tmp_path / "clicks" / "0"))
    first, second = books_of(tmp_path)["clicks/0"]
    assert (first.events, first.quarantined, first.absent, first.next) == (3, {"malformed": 1}, 4, 8)
    assert (second.first, second.kinds, second.latest) == (8, {"click": 1}, 1_700_000_005)
    assert ids(tmp_path) == once([0, 1, 2, 5])
    (entry,) = lines(tmp_path, "quarantine.jsonl")
    assert (entry["source"], entry["place"], entry["reason"], entry["raw"]) == ("clicks/0", 7, "malformed", "poison")


def test_a_refused_message_of_50_mb_does_not_stay_in_memory():
    draft = Draft("clicks/0", 0, 0)
    draft.add(0, b"x" * 50_000_000, Admission(Limits()), NOW)
    assert draft.refused[0].refusal.reason == "too_big"
    assert "50,000,000" in draft.refused[0].refusal.detail
    assert len(draft.refused[0].raw) < 10_000


def test_of_two_that_add_the_same_stretch_one_is_told(tmp_path):
    chain = SegmentChain(tmp_path / "clicks" / "0")
    draft_of([1, 2]).append_to(chain)
    with pytest.raises(OvertakenError):
        draft_of([1, 2, 3]).append_to(chain)
    assert ids(tmp_path) == once([1, 2])
    books_of(tmp_path)


def test_many_chains_at_one_partition_hold_each_message_once(tmp_path):
    """Owners who all believe to be the only one, each of which cleans away what the others are building."""
    messages = 400

    def own(step):
        chain = SegmentChain(tmp_path / "clicks" / "0")
        while True:
            chain.clean()
            last = chain.last()
            first = last.next if last is not None else 0
            if first >= messages:
                return
            try:
                draft_of(range(first, min(messages, first + step)), first).append_to(chain)
            except OvertakenError:
                continue

    owners = [threading.Thread(target=own, args=(step,)) for step in (1, 3, 7, 10)]
    for owner in owners:
        owner.start()
    for owner in owners:
        owner.join()
    SegmentChain(tmp_path / "clicks" / "0").clean()
    assert sum(books.events for books in books_of(tmp_path)["clicks/0"]) == messages
    assert ids(tmp_path) == once(range(messages))


def test_what_a_killed_process_was_building_is_no_segment(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from onehull.streams import segments;"
        "chain = segments.SegmentChain(Path(sys.argv[1]) / 'clicks' / '0');"
        "from onehull.streams.draft import Draft; draft = Draft('clicks/0', 0, 0); draft.lines = [b'{}'];"
        "draft.next = 1; draft.append_to(chain); draft = draft.following(); draft.lines = [b'{}']; draft.next = 2;"
        "from onehull.files import directory;"
        "directory.sync = lambda _: os.kill(os.getpid(), signal.SIGKILL); draft.append_to(chain)"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert killed.returncode == -9
    chain = SegmentChain(tmp_path / "clicks" / "0")
    assert len(list(chain.directory.glob(".building-*"))) == 1
    last = chain.last()
    assert last is not None
    assert last.next == 1
    chain.clean()
    books_of(tmp_path)


def test_names_that_are_new_are_brought_to_the_disk(tmp_path, monkeypatch):
    synced = []

    def note(path):
        synced.append(path)
        sync(path)

    for module in ("onehull.streams.segments", "onehull.files.directory"):
        monkeypatch.setattr(f"{module}.sync", note)
    draft_of([1]).append_to(SegmentChain(tmp_path / "out" / "clicks" / "0"))
    above = [tmp_path, tmp_path / "out", tmp_path / "out" / "clicks"]
    assert synced[:3] == above
    assert synced[-1] == tmp_path / "out" / "clicks" / "0"


LIMITED = """
import resource, signal, sys
from pathlib import Path
from onehull.errors import ArtifactError
from onehull.streams.draft import Draft
from onehull.streams.segments import SegmentChain
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
draft = Draft("clicks/0", 0, 1)
draft.lines = [b"{}" * 100_000]
try:
    draft.append_to(SegmentChain(Path(sys.argv[1]) / "clicks" / "0"))
except ArtifactError as error:
    print(error)
    sys.exit(7)
"""


def test_a_full_disk_adds_no_segment(tmp_path):
    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert "clicks/0 cannot be written: File too large." in done.stdout
    assert list((tmp_path / "clicks" / "0").iterdir()) == []


def test_a_directory_that_is_a_file_is_named(tmp_path):
    (tmp_path / "clicks").write_text("no directory")
    with pytest.raises(ArtifactError, match="clicks/0 cannot be written"):
        draft_of([1]).append_to(SegmentChain(tmp_path / "clicks" / "0"))


@pytest.mark.parametrize("damage", ["{", "{}", None])
def test_damaged_books_are_named(tmp_path, damage):
    chain = SegmentChain(tmp_path / "clicks" / "0")
    draft_of([1]).append_to(chain)
    (segment,) = chain.segments()
    books = segment / BOOKS_FILE
    books.unlink() if damage is None else books.write_text(damage)
    with pytest.raises(ArtifactError, match=r"segment\.json cannot be read"):
        chain.last()


def test_segments_behind_a_place(tmp_path):
    chain = SegmentChain(tmp_path / "clicks" / "0")
    for first in (0, 2, 4):
        draft_of([first, first + 1], first).append_to(chain)
    (chain.directory / "note.txt").write_text("of an operator")
    assert [read_books(path).first for path in chain.segments(after=0)] == [2, 4]
    shutil.rmtree(chain.directory / f"{0:020d}")  # an operator may remove old ones
    last = chain.last()
    assert last is not None
    assert last.next == 6


def test_the_same_note_is_told_once_in_half_a_minute(monkeypatch):
    told: list[str] = []
    note = Notes(told.append)
    now = time.monotonic()
    for seconds in (0, 1, 29, 31, 32):
        monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: now + seconds)
        note(f"broker gone since {seconds} s", about="gone")
        note("other")
    assert told == ["broker gone since 0 s", "other", "broker gone since 31 s", "other"]


def test_settings_that_do_not_pass(tmp_path):
    file = tmp_path / "tls.properties"
    file.write_text("# of the cluster\nsecurity.protocol = SASL_SSL\nsasl.password=a=b\n\ngroup.id=mine\n")
    pairs = ["sasl.password=secret", "no-equals", "auto.offset.reset=latest"]
    with pytest.raises(SpecError) as caught:
        client_settings(file, pairs)
    words = str(caught.value)
    assert "tls.properties, line 5 must not set 'group.id', which is said by --group" in words
    assert "--set sasl.password must stand in the file that --kafka-config names" in words
    assert "--set no-equals must be key=value" in words
    assert "--set auto.offset.reset must not set 'auto.offset.reset', which is said by --start" in words
    assert "secret" not in words
    file.write_text("security.protocol = SASL_SSL\nsasl.password=a=b\n")
    assert client_settings(file, ["client.id=x"]) == {
        "security.protocol": "SASL_SSL",
        "sasl.password": "a=b",
        "client.id": "x",
    }
    with pytest.raises(SpecError, match="must name a readable file"):
        client_settings(tmp_path / "absent", [])


@pytest.mark.parametrize(
    ("client", "module", "extra"),
    [(confluent_kafka, "confluent_kafka", "kafka"), (google_pubsub, "google.cloud", "pubsub")],
)
def test_a_client_that_is_not_installed_is_named(client, module, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPartError, match=rf'pip install "onehull\[{extra}\]"'):
        client()


def test_metrics_are_what_is_durable(tmp_path):
    metrics = IngestMetrics()
    draft = draft_of(range(3))
    draft.add(3, None, Admission(Limits()), NOW)
    metrics.committed("clicks/0", draft.append_to(SegmentChain(tmp_path / "clicks" / "0")))
    metrics.reads(1)
    metrics.lag("clicks/0", 17)
    metrics.overtaken("clicks/0")
    server = metrics.serve(0)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
        text = answer.read().decode()
    assert 'onehull_ingest_events_total{source="clicks/0"} 3.0' in text
    assert 'onehull_ingest_quarantined_total{reason="empty",source="clicks/0"} 1.0' in text
    assert 'onehull_ingest_lag{source="clicks/0"} 17.0' in text
    assert 'onehull_ingest_overtaken_total{source="clicks/0"} 1.0' in text
    assert "onehull_ingest_partitions 1.0" in text
    assert metrics.line().endswith("1 quarantined, 17 waiting")
    with pytest.raises(ArtifactError, match="cannot be listened on"):
        IngestMetrics().serve(server.server_port)
    server.shutdown()
    server.server_close()
    metrics.released("clicks/0")
    assert "onehull_ingest_lag{" not in repr(list(metrics.registry.collect()))


def test_books_know_the_earliest_and_the_latest_event(tmp_path):
    books = draft_of([3, 1, 2]).append_to(SegmentChain(tmp_path / "clicks" / "0"))
    assert (books.earliest, books.latest) == (1_700_000_001, 1_700_000_003)
    assert abs((datetime.now(UTC) - books.written).total_seconds()) < 60


def test_the_benchmark_would_see_what_is_lost_and_what_is_doubled(tmp_path):
    draft = Draft("clicks/0", 0, 0)
    for place, number in enumerate([0, 2, 2, 3]):
        draft.add(place, ingest.event(number), Admission(Limits()), NOW + 1e9)
    draft.append_to(SegmentChain(tmp_path / "clicks" / "0"))
    assert ingest.numbers_of(tmp_path, events=5).tolist() == [1, 0, 2, 1, 0]
