"""Lines decoded as columns: the same events, the same books and the same rejections as lines decoded one by one."""

import json
import random
from collections import Counter
from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from onehull.events import columnar, decode
from onehull.events.decode import BlockDecoder
from onehull.events.lines import Block
from onehull.events.quarantine import Quarantine
from onehull.events.schema import event_schema
from tests.unit.test_events_decode import spec

CONTEXT = ["hour", "device", "recent", "words", "view"]
T = "2026-01-05T10:00:00.25Z"


def impression(number: int, **changed: object) -> dict:
    context = {
        "part": 0,
        "hour": number % 24,
        "device": "phone",
        "recent": ["a", "b"],
        "words": "a|b",
        "view": [1, 2.5],
    }
    return {"event": "impression", "id": f"i{number}", "time": T, "user": 7, "item": "v", "context": context, **changed}


def feedback(number: int, **changed: object) -> dict:
    return {"event": "watch", "id": f"e{number}", "impression": f"i{number}", "time": T, "seconds": 2, **changed}


def plain(number: int) -> bytes:
    event = impression(number) if number % 3 else feedback(number)
    return json.dumps(event).encode() + b"\n"


# As long as T, and no such moment, or none that a fast way may read.
NEARLY_T = [
    "2026-02-30T10:00:00.25Z",
    "2026-01-05T24:00:00.25Z",
    "2026-01-05T10:60:00.25Z",
    "2026-01-05T10:00:60.25Z",
    "2026-01-05T10:00:00,25Z",
    "2026-01-05T10:00:0a.25Z",
    "2026-01-05T10:00:00.+5Z",
    "2026-01-05T10:00:00.2 Z",
    "2026-01-05T1:000:00.25Z",
    "2026/01/05T10:00:00.25Z",
    "+026-01-05T10:00:00.25Z",
    "2026-01-05T10:00:00.25z",
    "1960-01-05T10:00:00.25Z",
    "2100-01-05T10:00:00.25Z",
    "0000-01-05T10:00:00.25Z",
    "9999-12-31T23:59:59.99Z",
]


@pytest.mark.parametrize("digits", range(7))
def test_moments_that_are_written_alike_are_read_at_once(digits: int):
    """Also of slices, of several chunks, and of empty ones."""
    fraction = "." + "123456"[:digits] if digits else ""
    texts = [f"20{number:02d}-01-{number + 1:02d}T{number:02d}:59:07{fraction}Z" for number in range(20)]
    whole = pa.array(["x", *texts], pa.string())
    chunks = pa.chunked_array([whole[1:8], pa.array([], pa.string()), whole[8:]])
    usual = columnar._usual_moments(chunks)
    assert usual is not None
    assert usual.to_list() == [round(datetime.fromisoformat(text).timestamp() * 1e6) for text in texts]
    assert columnar._usual_moments(pa.chunked_array([whole])) is None
    assert columnar._usual_moments(pa.chunked_array([pa.array([*texts, None], pa.string())])) is None


ODD_EVENTS: list[dict] = [
    *(impression(1, time=moment) for moment in NEARLY_T),
    impression(1, id=None),
    impression(1, id=""),
    impression(1, id=5),
    impression(1, id=5.0),
    impression(1, user=None),
    impression(1, user="text"),
    impression(1, item=[1]),
    impression(1, time="2026-01-05T10:00:00"),
    impression(1, time="2026-01-05 10:00:00Z"),
    impression(1, time="2026-01-05"),
    impression(1, time="2026-02-30T10:00:00Z"),
    impression(1, time="2026-01-05T10:00:60Z"),
    impression(1, time="2026-01-05T24:00:00Z"),
    impression(1, time="2026-01-05T10:00:00.1234567Z"),
    impression(1, time="2026-01-05T10:00:00+05:30"),
    impression(1, time="2026-01-05t10:00:00z"),
    impression(1, time="1960-01-05T10:00:00Z"),
    impression(1, time="2026-1-5T10:00:00Z"),
    impression(1, time=1_700_000_000),
    impression(1, time=1_700_000_000_000),
    impression(1, time=-1.5),
    impression(1, time=None),
    impression(1, context=None),
    impression(1, context=3),
    impression(1, context={}),
    impression(1, context={"hour": True, "extra": {"deep": [1, {"x": None}]}}),
    impression(1, context={"hour": "3"}),
    impression(1, context={"hour": 1.5, "device": 3}),
    impression(1, context={"device": 3.5}),
    impression(1, context={"device": False}),
    impression(1, context={"device": ""}),
    impression(1, context={"device": ["a"]}),
    impression(1, context={"recent": []}),
    impression(1, context={"recent": ["", None, "c"]}),
    impression(1, context={"recent": [1, 2]}),
    impression(1, context={"recent": "a"}),
    impression(1, context={"words": " a | |b "}),
    impression(1, context={"words": 5}),
    impression(1, context={"view": [1]}),
    impression(1, context={"view": [1, None]}),
    impression(1, context={"view": [1e300, 2]}),
    impression(1, context={"part": "x"}),
    impression(1, unknown={"a": [1, 2]}, other=1e300),
    feedback(1, id=None),
    feedback(1, impression=None),
    feedback(1, impression=""),
    feedback(1, impression=3),
    feedback(1, seconds=None),
    feedback(1, seconds="3"),
    feedback(1, seconds=True),
    feedback(1, seconds=-0.0),
    feedback(1, seconds=12345678901234567890123),
    feedback(1, event="stars", seconds=2),
    feedback(1, event="stars", seconds=3),
    feedback(1, event="stars", seconds=1.5),
    feedback(1, event="click"),
    feedback(1, event="click", seconds="no number"),
    feedback(1, event="share", seconds=5, impression=None),
    feedback(1, event="share", time="nonsense"),
    feedback(1, event=""),
    feedback(1, event=None),
    feedback(1, event="näïve ✓"),
]
ODD_LINES = [
    b"",
    b"   ",
    b"[1]",
    b"{}",
    b'{"event": "impression"',
    b'{"event": "click", "time": 1} {"event": "click", "time": 1}',
    b'{"event": "click", "time": NaN, "impression": "i"}',
    b'{"event": "click", "time": 5, "impression": "i", "x": NaN}',
    b'{"event": "click", "time": 5, "impression": "i", "x": -Infinity}',
    b'{"event": "click", "time": 5, "impression": "Infinity: NaN"}',
    b'{"event": "click", "time": 5, "impression": "i", "seconds": 1e999}',
    b'{"event": "click", "time": 5, "impression": "i", "x": 1e999}',
    b'{"event": "click", "time": 5, "impression": "i", "impression": "j"}',
    b'{"event": "click", "time": 5, "impression": "\\ud800"}',
    b'{"event": "click", "time": 5, "impression": "a\\u0000b"}',
    b'{"event": "click", "time": 5, "impression": "\xff"}',
    b'{"event": "click", "time": 5, "impression": "i"} ',
    b'{"event": "click", "time": 5, "impression": "i"}\r',
    b'{"\\u0065vent": "click", "time": 5, "impression": "i"}',
    b'{"event": "click", "time": 05, "impression": "i"}',
    b'{"event": "click", "time": 5, "impression": "i",}',
    b'{"event": "click", "time": 5, "impression": "i", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
]
ODD = [json.dumps(event).encode() for event in ODD_EVENTS] + ODD_LINES


def decoded(lines: list[bytes], directory: Path) -> tuple:
    """Everything that decoding says of the lines, in an order that does not depend on how it was found."""
    directory.mkdir(parents=True, exist_ok=True)
    with Quarantine(directory / "quarantine.jsonl") as quarantine:
        decoder = BlockDecoder(event_schema(spec(), CONTEXT, ["part"]), quarantine)
        frames = [frame.sort("line") for frame in decoder.decode(Block(11, b"".join(lines)), Path("log"), 3)]
    rejected = sorted((directory / "quarantine.jsonl").read_text().splitlines())
    return frames, rejected, vars(decoder.counts), quarantine.counts


def one_by_one(lines: list[bytes], directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple:
    with monkeypatch.context() as patched:
        patched.setattr(decode, "_FEW", len(lines))
        return decoded(lines, directory)


def assert_same(lines: list[bytes], directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(decode, "_FEW", 1)
        found = decoded(lines, directory / "columns")
    wanted = one_by_one(lines, directory / "lines", monkeypatch)
    for mine, theirs in zip(found[0], wanted[0], strict=True):
        assert_frame_equal(mine, theirs, check_column_order=False, check_exact=True)
    assert found[1:] == wanted[1:]


@pytest.mark.parametrize("odd", ODD, ids=lambda line: line[:60].decode("utf-8", "replace"))
def test_an_odd_line_among_plain_ones_is_decoded_as_it_would_be_alone(
    odd: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [plain(number) for number in range(5)]
    for place in (0, 3, 5):
        mixed = [*lines[:place], odd + b"\n", *lines[place:]]
        assert_same(mixed, tmp_path / str(place), monkeypatch)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.02, 0.3, 1.0]), count=st.integers(1, 300))
def test_any_mixture_is_decoded_as_its_lines_are(
    seed: int, share: float, count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw = random.Random(seed)
    lines = [draw.choice(ODD) + b"\n" if draw.random() < share else plain(draw.randrange(1000)) for _ in range(count)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert_same(lines, tmp_path_factory.mktemp("mixture"), monkeypatch)


def test_plain_lines_are_decoded_as_columns_and_a_spoiled_block_for_the_most_part(tmp_path: Path) -> None:
    lines = [plain(number) for number in range(4096)]
    lines[1234] = b"not JSON\n"
    with Quarantine(tmp_path / "quarantine.jsonl") as quarantine:
        decoder = BlockDecoder(event_schema(spec(), CONTEXT, ["part"]), quarantine)
        decoder.decode(Block(1, b"".join(lines)), tmp_path, 0)
        assert decoder._one_by_one <= 2 * 64
        assert quarantine.counts == Counter(malformed=1)


def test_ids_that_are_numbers_are_the_same_ids_as_text(tmp_path: Path) -> None:
    numbers = [json.dumps(impression(n, id=n, user=n)).encode() + b"\n" for n in range(100)]
    texts = [json.dumps(impression(n, id=str(n), user=str(n))).encode() + b"\n" for n in range(100)]
    found, wanted = (decoded(lines, tmp_path / name)[0][0] for name, lines in (("n", numbers), ("t", texts)))
    assert_frame_equal(found, wanted)
    assert found.schema["id"] == pl.String


def test_a_block_that_arrow_can_read_has_no_doubtful_line_without_need() -> None:
    schema = event_schema(spec(), CONTEXT, ["part"])
    columns = columnar.ColumnarDecoder(schema).decode(b"".join(plain(number) for number in range(300)), 1)
    assert columns is not None
    assert not columns.doubtful
    assert len(columns.impressions) + len(columns.feedback) == 300
