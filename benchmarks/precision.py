"""The step in float32 and bfloat16, as a graph and compiled by XLA, for shapes from small to wide.

``python -m benchmarks.precision``: rounds in turn on one machine, a ratio to float32 as a graph in each round, and the
median of the ratios. ``full`` measures XLA, too, which takes long to compile on a CPU.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import tensorflow as tf

from benchmarks.harness import finish, parser, place
from onehull.model import build_model, compile_model
from onehull.spec.balance import StaticBalance
from onehull.spec.inputs import ModelInput
from onehull.spec.model import Architecture, Mmoe, SharedBottom
from onehull.spec.tasks import BinaryTask, Task
from onehull.spec.training import Training
from onehull.train.precision import Candidate, has_bfloat16
from onehull.train.probe import drawn_batch, twin_inputs

SHAPES: dict[str, tuple[Architecture, int, int]] = {
    "8 ids, bottom 64-32, batch 1,024": (SharedBottom(bottom=(64, 32)), 8, 1024),
    "26 ids, bottom 256-128, batch 1,024": (SharedBottom(), 26, 1024),
    "26 ids, bottom 256-128, batch 4,096": (SharedBottom(), 26, 4096),
    "26 ids, bottom 1024-512, batch 4,096": (SharedBottom(bottom=(1024, 512)), 26, 4096),
    "26 ids, MMoE of 4 experts 256-128, batch 4,096": (Mmoe(kind="mmoe"), 26, 4096),
}
"""Architecture, id features of 100,000 rows × 16 (and 13 numbers, 3 binary tasks), rows of a batch."""
PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "training.md"
STEPS = 10
PLAIN = Candidate()


def compiled_step(section: Any, ids: int, batch_size: int, candidate: Candidate) -> Callable[[], Any]:
    """A step on the same drawn batch; called twice, so that it is compiled."""
    named = [ModelInput(name=f"id_{index}", kind="id", rows=100_000) for index in range(ids)]
    inputs = twin_inputs([*named, ModelInput(name="numbers", kind="dense", length=13)], section.embedding_dim)
    tasks: dict[str, Task] = {f"task_{index}": BinaryTask(kind="binary") for index in range(3)}
    model = build_model(section, tasks, inputs, precision=candidate.precision)
    compile_model(model, tasks, StaticBalance(), Training(), jit_compile=candidate.jit_compile)
    model.build_optimizers()
    step = tf.function(model.train_step, jit_compile=candidate.jit_compile, autograph=False)
    batch = tf.nest.map_structure(tf.constant, drawn_batch(inputs, tasks, batch_size))
    step(batch)
    step(batch)
    return lambda: step(batch)


def measure(shape: tuple[Any, int, int], candidates: Sequence[Candidate], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a step by candidate, and the median ratio to float32 as a graph."""
    begun, compiled, steps = time.perf_counter(), {}, {}
    for candidate in candidates:
        steps[candidate] = compiled_step(*shape, candidate)
        compiled[candidate], begun = time.perf_counter() - begun, time.perf_counter()
    times: dict[Candidate, list[float]] = {candidate: [] for candidate in candidates}
    for _ in range(rounds):
        for candidate, step in steps.items():
            times[candidate].append(median(_timed(step) for _ in range(STEPS)))
    plain = times[PLAIN]
    return {
        str(candidate): {
            "step_ms": round(1000 * median(found), 2),
            "ratio": round(median(a / b for a, b in zip(found, plain, strict=True)), 3),
            "compile_seconds": round(compiled[candidate], 1),
        }
        for candidate, found in times.items()
    }


def main() -> None:
    """Measures and prints."""
    options = parser(__doc__)
    options.add_argument("--docs", action="store_true", help="also write the table into docs/explanation/training.md")
    arguments = options.parse_args()
    full = arguments.profile == "full"
    precisions = ("float32", "bfloat16")
    candidates = [Candidate(p, jit) for jit in ((False, True) if full else (False,)) for p in precisions]  # type: ignore[arg-type]
    shapes = {}
    for name, shape in SHAPES.items():
        shapes[name] = measure(shape, candidates, 9 if full else 5)
        gc.collect()
    rows = [
        [name, *(f"{found[str(c)]['step_ms']:.1f} ({found[str(c)]['ratio']:.2f})" for c in candidates)]
        for name, found in shapes.items()
    ]
    result = {"bfloat16_of_the_machine": has_bfloat16(), "load_average": os.getloadavg(), "shapes": shapes}
    if arguments.docs:
        place(PAGE, "precision", markdown(result))
    columns = ["shape", *(f"{candidate}, ms (ratio)" for candidate in candidates)]
    finish("A step in each precision", columns, rows, result, arguments.save)


def markdown(result: Mapping[str, Any]) -> str:
    """The table of the documentation."""
    names = list(next(iter(result["shapes"].values())))
    lines = [f"| ms a step (ratio to float32) | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for shape, found in result["shapes"].items():
        cells = [f"{found[name]['step_ms']:.1f} ({found[name]['ratio']:.2f})" for name in names]
        lines.append(f"| {shape} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _timed(step: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
