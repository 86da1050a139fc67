"""Makes a world and writes its log; the same seed gives the same bytes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from onehull.errors import ArtifactError
from onehull.spec.events import WORLD_MARKER
from onehull.spec.section import Section
from onehull.world.behaviour import PURCHASE_RATE, Impressions, Outcomes, Truth, act, show, true_probabilities
from onehull.world.log import count_kinds, deliver, feedback_lines, impression_lines, write_days, write_records
from onehull.world.population import item_records, make_centres, make_items, make_users, user_records

_GENERATION = 1
"""Raised when the same seed would give another world."""


class WorldSummary(Section):
    """What was simulated; written as ``SIMULATED.json`` beside the log."""

    generation: int
    users: int
    items: int
    days: int
    seed: int
    purchase_rate: float = PURCHASE_RATE
    impressions: int
    true_rates: dict[str, float]
    """Mean true probability of each binary outcome, and mean watch seconds of a click."""
    delivered: dict[str, int]
    """Lines of each kind, and the troubles that were put in: duplicates, late, orphan and broken lines."""


def simulate(
    out: str | Path,
    *,
    users: int = 2000,
    items: int = 1000,
    days: int = 8,
    seed: int = 0,
    purchase_rate: float = PURCHASE_RATE,
) -> WorldSummary:
    """Writes the log of a simulated short-video app.

    Args:
        out: directory; made when it is missing. Gets ``impressions-DATE.jsonl``, ``feedback-DATE.jsonl``,
            ``users.jsonl``, ``items.jsonl``, ``truth.parquet`` and ``SIMULATED.json`` (written last).
        users: number of people.
        items: number of videos.
        days: length of the log.
        seed: of everything that is random.
        purchase_rate: mean probability that an impression leads to a purchase.

    Returns:
        Sizes, true rates, and how many lines of each kind were delivered.

    Raises:
        ArtifactError: the directory cannot be written, or holds a log that is not simulated.
        ValueError: so many purchases cannot come of the clicks.
    """
    directory = Path(out)
    random = np.random.default_rng(seed)
    centres_CD = make_centres(random)
    people = make_users(users, centres_CD, random)
    videos = make_items(items, days, centres_CD, random)
    shown = show(people, videos, days, random)
    truth = true_probabilities(people, videos, shown, purchase_rate)
    outcomes = act(truth, random)
    impressions = deliver(impression_lines(shown), days * 86400.0, random)
    feedback = deliver(feedback_lines(shown, outcomes, random), days * 86400.0, random)
    counts = {**count_kinds("impressions", impressions), **count_kinds("feedback", feedback)}
    try:
        _clear(directory)
        write_records(directory / "users.jsonl", user_records(people, random))
        write_records(directory / "items.jsonl", item_records(videos, random))
        write_days(directory, "impressions", impressions)
        write_days(directory, "feedback", feedback)
        _write_truth(directory / "truth.parquet", truth)
        parameters = {"users": users, "items": items, "days": days, "seed": seed}
        summary = _summary(shown, truth, outcomes, counts, purchase_rate, **parameters)
        (directory / WORLD_MARKER).write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"{directory}: the simulated log cannot be written: {error}") from error
    return summary


def ensure_world(out: Path, *, users: int, items: int, days: int, seed: int) -> WorldSummary:
    """The world with these parameters: the one that stands there, or a new one."""
    wanted = {"generation": _GENERATION, "users": users, "items": items, "days": days, "seed": seed,
              "purchase_rate": PURCHASE_RATE}  # fmt: skip
    with suppress(OSError, ValueError):
        found = WorldSummary.model_validate_json((out / WORLD_MARKER).read_bytes())
        if found.model_dump(include=set(wanted)) == wanted:
            return found
    return simulate(out, users=users, items=items, days=days, seed=seed)


def _clear(directory: Path) -> None:
    """Removes an earlier world; its log says that it is simulated from the first byte on, and is whole at the last.

    Raises:
        ArtifactError: a log stands there that nothing calls simulated.
    """
    directory.mkdir(parents=True, exist_ok=True)
    logs = [path for pattern in ("impressions-*.jsonl", "feedback-*.jsonl") for path in directory.glob(pattern)]
    if logs and not (directory / WORLD_MARKER).is_file():
        rule = f"must be empty, or hold a simulated world ({WORLD_MARKER})"
        raise ArtifactError(f"{directory} {rule}. Received a log: {logs[0].name}. Choose another directory.")
    (directory / WORLD_MARKER).write_text('{"complete": false}\n', encoding="utf-8")
    for path in logs:
        path.unlink()


def _write_truth(path: Path, truth: Truth) -> None:
    import polars as pl

    ids = [f"i{n}" for n in range(len(truth.click_N))]
    columns: dict[str, Any] = {
        "sample": ids,
        "click": truth.click_N,
        "watch": truth.watch_s_N,
        "like": truth.like_N,
        "purchase": truth.purchase_N,
    }
    pl.DataFrame(columns).write_parquet(path)


def _summary(
    shown: Impressions,
    truth: Truth,
    outcomes: Outcomes,
    counts: dict[str, int],
    purchase_rate: float,
    **parameters: int,
) -> WorldSummary:
    rates = {
        "click": float(truth.click_N.mean()),
        "like": float(truth.like_N.mean()),
        "purchase": float(truth.purchase_N.mean()),
        "watch_seconds_of_a_click": float(outcomes.watch_s_N[outcomes.click_N].mean())
        if outcomes.click_N.any()
        else 0.0,
    }
    return WorldSummary(
        generation=_GENERATION,
        **parameters,
        purchase_rate=purchase_rate,
        impressions=len(shown.user_N),
        true_rates={name: round(rate, 6) for name, rate in rates.items()},
        delivered=dict(sorted(counts.items())),
    )
