"""The estimate of memory against the peak that is measured, each size in a process of its own.

``python -m benchmarks.memory``: the model of `benchmarks.feed_model` and wider ones, trained for a few steps by a loop
as `onehull train` has it. ``full`` adds tables of gigabytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import finish, parser, place

SIZES: dict[str, dict[str, Any]] = {
    "small": {"rows": 10_000, "batch": 4096},
    "wide layers, large batch": {"rows": 10_000, "batch": 32_768, "bottom": [1024, 512]},
    "all rows move (Keras Adam)": {"rows": 300_000, "batch": 4096, "embedding_optimizer": "same"},
    "tables of 2.5 GB": {"rows": 1_500_000, "batch": 4096},
    "tables of 2.5 GB, lazy Adam": {"rows": 1_500_000, "batch": 4096, "embedding_optimizer": "lazy_adam"},
}
PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "training.md"
FAST = 3
STEPS = 8


def measure(size: dict[str, Any]) -> dict[str, float]:
    """Estimate and peak of one size, in GiB; in this process, which must be a fresh one."""
    import tensorflow as tf

    from benchmarks.feed_model import BATCH, FEATURES, NUMBERS, feed_batch
    from onehull.model import build_model, compile_model
    from onehull.spec.balance import StaticBalance
    from onehull.spec.inputs import ModelInput
    from onehull.spec.model import SharedBottom
    from onehull.spec.tasks import BinaryTask, Task
    from onehull.spec.training import Training
    from onehull.train.memory import estimate_memory
    from onehull.train.steps import Steps
    from onehull.train.telemetry import peak_memory

    ids = [ModelInput(name=f"id_{index}", kind="id", rows=size["rows"]) for index in range(FEATURES)]
    inputs = [*ids, ModelInput(name="numbers", kind="dense", length=NUMBERS)]
    tasks: dict[str, Task] = {f"task_{index}": BinaryTask(kind="binary") for index in range(3)}
    model = build_model(SharedBottom(bottom=tuple(size.get("bottom", (256, 128)))), tasks, inputs)
    optimizer = size.get("embedding_optimizer", "rowwise_adagrad")
    compile_model(model, tasks, StaticBalance(), Training(embedding_optimizer=optimizer))
    batches = [feed_batch(3, size["rows"], seed) for seed in range(size["batch"] // BATCH)]
    x, y = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *batches)
    del batches
    row_bytes = 4 * (FEATURES + NUMBERS + len(tasks))
    estimate = estimate_memory(model, size["batch"], row_bytes * size["batch"])
    steps = Steps(model)
    steps(iter(tf.data.Dataset.from_tensors((x, y)).repeat().prefetch(2)), STEPS)
    need, peak = estimate.need_bytes() / 2**30, peak_memory()["host"] / 2**30
    parts = {part.name: round(part.size_bytes / 2**30, 3) for part in estimate.parts}
    return {"estimated_gib": round(need, 3), "measured_gib": round(peak, 3), "ratio": round(need / peak, 3), **parts}


def main() -> None:
    """Measures and prints."""
    options = parser(__doc__)
    options.add_argument("--docs", action="store_true", help="also write the table into docs/explanation/training.md")
    arguments = options.parse_args()
    chosen = list(SIZES)[: FAST if arguments.profile == "fast" else None]
    results = {}
    for name in chosen:
        script = (
            f"import json; from benchmarks.memory import SIZES, measure; print(json.dumps(measure(SIZES[{name!r}])))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
        results[name] = json.loads(done.stdout.splitlines()[-1])
    rows = [
        [name, *(f"{found[key]:.2f}" for key in ("estimated_gib", "measured_gib", "ratio"))]
        for name, found in results.items()
    ]
    ratios = [found["ratio"] for found in results.values()]
    result = {"worst_ratio": max(ratios, key=lambda ratio: abs(ratio - 1)), "sizes": results}
    if arguments.docs:
        place(PAGE, "memory", markdown(result))
    finish("Memory of training", ["size", "estimated GiB", "measured GiB", "ratio"], rows, result, arguments.save)


def markdown(result: Mapping[str, Any]) -> str:
    """The table of the documentation."""
    lines = ["| GiB | estimated | measured | ratio |", "|---|---:|---:|---:|"]
    for name, found in result["sizes"].items():
        numbers = [f"{found[key]:.2f}" for key in ("estimated_gib", "measured_gib", "ratio")]
        lines.append(f"| {name} | {' | '.join(numbers)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
