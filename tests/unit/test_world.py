"""The simulated world: the same seed gives the same bytes, its rates are what it says, its troubles are counted."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onehull.errors import ArtifactError
from onehull.world import ensure_world, simulate, summary_table


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def lines(directory: Path, pattern: str) -> list[str]:
    return [line for path in sorted(directory.glob(pattern)) for line in path.read_text().splitlines()]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(tmp_path / name, users=60, items=40, days=3, seed=seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a") != digests(tmp_path / "c")


def test_outcomes_come_at_their_true_rates_and_only_after_a_click(tmp_path: Path):
    summary = simulate(tmp_path, users=800, items=200, days=4, seed=0)
    truth = pl.read_parquet(tmp_path / "truth.parquet")
    size = summary.impressions
    assert len(truth) == size
    for event in ("click", "like"):
        rate = float(truth[event].to_numpy().mean())
        spread = 5 * np.sqrt(rate * (1 - rate) / size)
        assert abs(summary.delivered[event] / size - rate) < spread
    assert (truth["like"] <= truth["click"]).all()
    assert (truth["purchase"] <= truth["click"]).all()
    events: dict[str, set[str]] = {kind: set() for kind in ("click", "watch", "like", "purchase")}
    for text in lines(tmp_path, "feedback-*"):
        try:
            event = json.loads(text)
        except json.JSONDecodeError:
            continue
        events[event["event"]].add(event["id"][1:])
    # The click of an event near the end may still be on its way: a handful of lines, no more.
    assert len(events["watch"] - events["click"]) <= 3
    assert len(events["like"] - events["click"]) <= 3


def test_purchases_come_at_the_rate_that_is_asked_for(tmp_path: Path):
    summary = simulate(tmp_path / "many", users=300, items=200, days=3, purchase_rate=0.04)
    assert summary.true_rates["purchase"] == pytest.approx(0.04, abs=1e-5)
    assert pl.read_parquet(tmp_path / "many" / "truth.parquet")["purchase"].mean() == pytest.approx(0.04, abs=1e-5)
    assert ensure_world(tmp_path / "many", users=300, items=200, days=3, seed=0).purchase_rate == 0.008
    with pytest.raises(ValueError, match=r"purchase_rate must be above 0 and below .* Received 0\.5"):
        simulate(tmp_path / "too-many", users=30, items=20, days=2, purchase_rate=0.5)


def test_every_trouble_that_was_put_in_is_counted(tmp_path: Path):
    summary = simulate(tmp_path, users=600, items=200, days=5, seed=3)
    for prefix in ("impressions", "feedback"):
        texts = lines(tmp_path, f"{prefix}-*")
        parsed = [json.loads(text) for text in texts if text.endswith("}")]
        broken = len(texts) - len(parsed) + sum(event["time"].startswith("about") for event in parsed)
        assert broken == summary.delivered[f"{prefix} broken"] > 0
        whole = Counter(text for text in texts if text.endswith("}") and "about" not in text)
        assert sum(count - 1 for count in whole.values()) == summary.delivered[f"{prefix} duplicate"] > 0
    orphans = {text for text in lines(tmp_path, "feedback-*") if '"impression": "lost' in text}
    assert len(orphans) >= summary.delivered["orphan"] > 0


def test_lines_arrive_out_of_order(tmp_path: Path):
    simulate(tmp_path, users=100, items=50, days=3)
    times = [json.loads(text)["time"] for text in lines(tmp_path, "impressions-*") if text.endswith("}")]
    assert times != sorted(times)


def test_the_log_ends_when_the_last_day_ends(tmp_path: Path):
    simulate(tmp_path, users=100, items=50, days=3)
    assert sorted(path.name[-16:-6] for path in tmp_path.glob("feedback-*")) == [
        "2026-01-05",
        "2026-01-06",
        "2026-01-07",
    ]


def test_attributes_are_sometimes_missing_and_hidden_ones_are_not_written(tmp_path: Path):
    simulate(tmp_path, users=400, items=300, days=3)
    users, items = (pl.read_ndjson(tmp_path / f"{name}.jsonl") for name in ("users", "items"))
    assert 0 < users["age_group"].null_count() < 40
    assert 0 < items["duration_s"].null_count() < 40
    assert not {"taste", "quality", "vector"} & {*users.columns, *items.columns}


def test_a_world_that_stands_there_is_kept(tmp_path: Path):
    first = ensure_world(tmp_path, users=30, items=20, days=2, seed=0)
    marker = (tmp_path / "SIMULATED.json").stat().st_mtime_ns
    assert ensure_world(tmp_path, users=30, items=20, days=2, seed=0) == first
    assert (tmp_path / "SIMULATED.json").stat().st_mtime_ns == marker
    assert ensure_world(tmp_path, users=30, items=20, days=3, seed=0).days == 3


def test_one_user_and_one_item_are_a_world(tmp_path: Path):
    summary = simulate(tmp_path, users=1, items=1, days=2)
    assert summary.impressions > 0
    assert summary_table(summary).row_count > 5


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="file"):
        simulate(tmp_path / "file", users=2, items=2, days=2)


def test_a_log_that_is_not_simulated_is_never_overwritten(tmp_path: Path):
    (tmp_path / "impressions-2026-01-05.jsonl").write_text("real\n")
    with pytest.raises(ArtifactError, match=r"Received a log: impressions-2026-01-05\.jsonl"):
        simulate(tmp_path, users=5, items=5, days=2)
    assert (tmp_path / "impressions-2026-01-05.jsonl").read_text() == "real\n"


def test_an_interrupted_world_is_called_simulated_and_made_again(tmp_path: Path):
    simulate(tmp_path, users=5, items=5, days=2)
    (tmp_path / "SIMULATED.json").write_text('{"complete": false}')
    assert ensure_world(tmp_path, users=5, items=5, days=2, seed=0).users == 5
