"""A training step of ours beside Keras ``fit``, DeepCTR and torch-rechub: the same model, the same rows in memory.

Each contestant runs in a process and an environment of its own (`benchmarks.peers`); they take turns, never two at
once, and a figure is the median over the turns. At 260 thousand rows all stay alive; at 26 million a peer is started,
takes turns with ours, and ends before the next one starts. Every peer has its best settings: no regularizers, no batch
normalisation, batches that were made before, the fused Adam of PyTorch, memory that is not given back to the kernel.
With ``--as-they-come`` they are also measured with the settings that they have by themselves, at 26 million rows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import finish, parser, place
from benchmarks.peers.contestants import (
    AS_THEY_COME,
    KERAS_BFLOAT16,
    OURS,
    OURS_FLOAT32,
    PEERS,
    Entry,
    Figures,
    take_turns,
)
from benchmarks.peers.task import draw

SMALL, LARGE = 10_000, 1_000_000
"""Rows of each of the 26 tables."""
TASKS, BATCHES = 3, 64
TURNS = {"fast": 7, "full": 25}
LARGE_TURNS = {"fast": 3, "full": 7}
AS_THEY_COME_TURNS = {"fast": 2, "full": 5}
STEPS, LARGE_STEPS = 20, 2
"""Steps of a turn; a step of a peer takes seconds where the tables are large."""
OUR_LARGE_STEPS = 20
ROOT = Path(__file__).parents[1]
NAMES = {
    "onehull": "OneHull",
    "onehull_float32": "OneHull, float32",
    "keras_fit": "Keras `fit`",
    "keras_fit_bfloat16": "Keras `fit`, bfloat16",
    "deepctr": "DeepCTR",
    "torch_rechub": "torch-rechub",
    "keras_fit_as_it_comes": "Keras `fit`, as it comes",
    "deepctr_as_it_comes": "DeepCTR, as it comes",
    "torch_rechub_as_it_comes": "torch-rechub, as it comes",
}
"""What contestants are called on the page."""


def small(folder: Path, profile: str) -> dict[str, Figures]:
    """All contestants in turn, tables of 260 thousand rows."""
    first = prepare(folder, SMALL)
    entries = [OURS, OURS_FLOAT32, *PEERS, KERAS_BFLOAT16]
    return take_turns(entries, first, folder, turns=TURNS[profile], steps={entry.name: STEPS for entry in entries})


def large(folder: Path, profile: str, peers: Sequence[Entry]) -> dict[str, Figures]:
    """Each peer in turn with ours, tables of 26 million rows."""
    first = prepare(folder, LARGE)
    found: dict[str, Figures] = {}
    for peer in peers:
        say(f"26 million rows: {peer.name}")
        steps = {OURS.name: OUR_LARGE_STEPS, peer.name: LARGE_STEPS if peer.tuned else 1}
        turns = LARGE_TURNS[profile] if peer.tuned else AS_THEY_COME_TURNS[profile]
        pair = take_turns([OURS, peer], first, folder, turns=turns, steps=steps)
        found[peer.name] = pair[peer.name]
        if OURS.name in found:
            pair[OURS.name].step_ms[:0] = found[OURS.name].step_ms
        found[OURS.name] = pair[OURS.name]
    return found


def prepare(folder: Path, rows: int) -> dict[str, Any]:
    """Draws the data and writes it for the workers; returns their first line."""
    draw(rows, BATCHES, TASKS).save(folder)
    return {"data": str(folder), "rows": rows, "threads": os.cpu_count()}


def ratios(at_small: Mapping[str, Figures], at_large: Mapping[str, Figures]) -> dict[str, Any]:
    """What is asked for: times and memory of ours against the best peer's, best in each of them by itself."""
    names = [peer.name for peer in PEERS]
    best = {size: min(names, key=lambda name: figures[name].median_ms) for size, figures in
            (("small", at_small), ("large", at_large))}  # fmt: skip
    lightest = min(names, key=lambda name: at_large[name].peak_bytes)
    fastest = at_small[best["small"]].median_ms
    found: dict[str, Any] = {
        "small_vs_best_peer": round(fastest / at_small[OURS.name].median_ms, 2),
        "small_float32_vs_best_peer": round(fastest / at_small[OURS_FLOAT32.name].median_ms, 2),
        "large_vs_best_peer": round(at_large[best["large"]].median_ms / at_large[OURS.name].median_ms, 1),
        "memory_vs_best_peer": round(at_large[OURS.name].peak_bytes / at_large[lightest].peak_bytes, 3),
        "small_vs_keras_fit_bfloat16": round(
            at_small[KERAS_BFLOAT16.name].median_ms / at_small[OURS.name].median_ms, 2
        ),
        "best_peer": {**best, "memory": lightest},
    }
    own = [peer.name for peer in AS_THEY_COME if peer.name in at_large]
    if own:
        fastest_own = min(own, key=lambda name: at_large[name].median_ms)
        ratio = at_large[fastest_own].median_ms / at_large[OURS.name].median_ms
        found["large_vs_best_peer_as_it_comes"] = round(ratio, 1)
        found["best_peer"]["large_as_it_comes"] = fastest_own
    return found


def dense_part(profile: str) -> dict[str, Any]:
    """How near the dense part comes to the machine's rate, and whether bfloat16 costs quality."""
    from benchmarks.dense_peak import dense_peak
    from benchmarks.precision_auc import precision_auc

    turns = {"fast": 25, "full": 100}[profile]
    say("The dense part")
    peaks = {precision: dense_peak(TASKS, turns=turns, precision=precision) for precision in ("float32", "bfloat16")}
    say("AUC in float32 and in bfloat16")
    return {"dense": peaks, "auc": precision_auc(seeds=3, epochs={"fast": 1, "full": 3}[profile])}


def rows_of(size: str, found: Mapping[str, Figures]) -> list[list[str]]:
    """Lines of the table, the fastest first."""
    lines = []
    for name, figures in sorted(found.items(), key=lambda item: item[1].median_ms):
        times = [figures.median_ms, min(figures.step_ms), max(figures.step_ms)]
        lines.append([f"{size} rows, {name}", *(f"{time:.1f}" for time in times), f"{figures.peak_bytes / 1e9:.2f}"])
    return lines


def markdown(result: Mapping[str, Any]) -> str:
    """A line for each contestant at each size: time and memory, and both as a multiple of ours."""
    lines = [
        "| rows of all tables | contestant | ms a step | × ours | peak GB | × ours |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for size, found in (("260 thousand", result["small"]), ("26 million", result["large"])):
        ours = found[OURS.name]
        for name, one in sorted(found.items(), key=lambda item: item[1]["step_ms"]):
            times, memory = one["step_ms"] / ours["step_ms"], one["peak_gb"] / ours["peak_gb"]
            cells = [
                size,
                NAMES[name],
                f"{one['step_ms']:.1f}",
                f"{times:.2f}",
                f"{one['peak_gb']:.2f}",
                f"{memory:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Runs all parts."""
    options = parser(__doc__)
    options.add_argument("--docs", action="store_true", help="also put the table into the documentation")
    options.add_argument("--as-they-come", action="store_true", help="also peers with their own settings, 3 min more")
    arguments = options.parse_args()
    profile = arguments.profile
    with TemporaryDirectory() as name:
        folder = Path(name)
        say("260 thousand rows: all contestants")
        at_small = small(folder, profile)
        at_large = large(folder, profile, (*PEERS, *(AS_THEY_COME if arguments.as_they_come else ())))
    found = dense_part(profile)
    result = {
        "profile": profile,
        **ratios(at_small, at_large),
        "peak_fraction": found["dense"]["float32"]["fraction"],
        **found,
        "small": {name: figures.summary for name, figures in at_small.items()},
        "large": {name: figures.summary for name, figures in at_large.items()},
    }
    if arguments.docs:
        place(ROOT / "docs" / "explanation" / "speed.md", "train_speed", markdown(result))
    rows = [*rows_of("260 thousand", at_small), *rows_of("26 million", at_large)]
    columns = ["contestant", "ms a step", "least", "most", "peak GB"]
    finish("Training step, batch 4096 (simulated data, in turn)", columns, rows, result, arguments.save)


if __name__ == "__main__":
    main()
