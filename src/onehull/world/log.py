"""Writes the log as an app delivers it: late, twice, out of order, and sometimes broken.

Each kind of trouble is drawn at a known rate and counted, so that a reader's books can be checked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onehull.spec.events import IMPRESSION
from onehull.world.behaviour import DEVICES, Impressions, Outcomes

START = np.datetime64("2026-01-05T00:00:00", "ms")
"""A Monday."""

DUPLICATE_SHARE, LATE_SHARE, ORPHAN_SHARE, BROKEN_SHARE = 0.004, 0.003, 0.001, 0.0003
_LATE_S = 3 * 86400.0


_IMPRESSION_OF = {"orphan": "lost"}
"""Start of the impression's id, where it is not that of an impression in the log."""


class Line(NamedTuple):
    """A line on its way: when it is delivered, what it says, and what it counts as."""

    second: float
    text: str
    kind: str


def impression_lines(shown: Impressions) -> list[Line]:
    """One line an impression."""
    times = _iso(shown.second_N)
    return [
        Line(
            second,
            f'{{"event": "{IMPRESSION}", "id": "i{n}", "time": "{time}", "user": "u{user}", "item": "v{item}", '
            f'"context": {{"hour": {hour}, "position": {position}, "device": "{DEVICES[device]}"}}}}',
            IMPRESSION,
        )
        for n, (second, time, user, item, hour, position, device) in enumerate(
            zip(
                shown.second_N.tolist(),
                times,
                shown.user_N.tolist(),
                shown.item_N.tolist(),
                shown.hour_N.tolist(),
                shown.position_N.tolist(),
                shown.device_N.tolist(),
                strict=True,
            )
        )
    ]


def feedback_lines(shown: Impressions, outcomes: Outcomes, random: np.random.Generator) -> list[Line]:
    """One line for each click, watch, like and purchase; a few come days later, a few belong to nothing."""
    size = len(shown.second_N)
    click_s = shown.second_N + random.exponential(3.0, size) + 0.5
    watched_s = click_s + outcomes.watch_s_N
    like_s = click_s + outcomes.watch_s_N * random.uniform(0.2, 1.0, size)
    bought_s = click_s + random.lognormal(np.log(4 * 3600.0), 0.9, size)
    lines: list[Line] = []
    for event, happened, seconds, values in (
        ("click", outcomes.click_N, click_s, None),
        ("watch", outcomes.click_N, watched_s, outcomes.watch_s_N),
        ("like", outcomes.like_N, like_s, None),
        ("purchase", outcomes.purchase_N, bought_s, None),
    ):
        rows = np.flatnonzero(happened)
        late = (random.random(len(rows)) < LATE_SHARE) & (event == "like")
        orphan = random.random(len(rows)) < ORPHAN_SHARE
        kinds = np.where(orphan, "orphan", np.where(late, "late", event)).tolist()
        moments = seconds[rows] + np.where(late, _LATE_S, 0.0)
        lines += _events(event, rows, moments, kinds, None if values is None else values[rows])
    return lines


def _events(
    event: str, rows: np.ndarray, moments: np.ndarray, kinds: list[str], values: np.ndarray | None
) -> list[Line]:
    extra = [""] * len(rows) if values is None else [f', "value": {value:.2f}' for value in values]
    return [
        Line(
            second,
            f'{{"event": "{event}", "id": "{event[0]}{row}", "impression": "{_IMPRESSION_OF.get(kind, "i")}{row}", '
            f'"time": "{time}"{more}}}',
            kind,
        )
        for second, row, kind, time, more in zip(
            moments.tolist(), rows.tolist(), kinds, _iso(moments), extra, strict=True
        )
    ]


def deliver(lines: Sequence[Line], until_s: float, random: np.random.Generator) -> list[Line]:
    """What arrives before the log ends: a little out of order, some of it twice, a few lines broken as well."""
    delays = random.exponential(2.0, len(lines)).tolist()
    again = random.random(len(lines)) < DUPLICATE_SHARE
    broken = random.random(len(lines)) < BROKEN_SHARE
    delivered = [line._replace(second=line.second + delay) for line, delay in zip(lines, delays, strict=True)]
    delivered += [Line(lines[i].second + 60.0, lines[i].text, "duplicate") for i in np.flatnonzero(again).tolist()]
    delivered += [Line(lines[i].second, _break(lines[i].text, i), "broken") for i in np.flatnonzero(broken).tolist()]
    return sorted(line for line in delivered if line.second < until_s)


def write_days(out: Path, prefix: str, lines: Sequence[Line]) -> None:
    """One file a day of delivery."""
    days: dict[int, list[str]] = {}
    for line in lines:
        days.setdefault(int(line.second // 86400), []).append(line.text)
    for day, texts in days.items():
        date = str(START + np.timedelta64(day, "D"))[:10]
        (out / f"{prefix}-{date}.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")


def count_kinds(prefix: str, lines: Sequence[Line]) -> dict[str, int]:
    """Delivered lines by what they count as; troubles are named with their file."""
    counts = Counter(line.kind for line in lines)
    troubles = ("duplicate", "broken")
    return {f"{prefix} {kind}" if kind in troubles else kind: count for kind, count in counts.items()}


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """A table as JSON Lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _break(text: str, index: int) -> str:
    """A line that was cut off, or one whose time is no time; the whole line is delivered as well."""
    return text[: len(text) // 2] if index % 2 else text.replace('"time": "', '"time": "about ', 1)


def _iso(second_N: np.ndarray) -> list[str]:
    moments = START + (second_N * 1000).astype("timedelta64[ms]")
    return [f"{text}Z" for text in np.datetime_as_string(moments, unit="ms").tolist()]
