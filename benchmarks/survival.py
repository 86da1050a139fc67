"""`onehull train`, killed at random moments and started again until it is done: it must end in the same bits.

Every training is a process of the command line in deterministic mode. It is killed with SIGKILL some times, each time
at a moment drawn at random: half of the first kills hit anywhere in the start of the process, before there is a
checkpoint; the others come after the first checkpoint that the process writes, and the last one while a file is being
written. What is compared with a training that was never killed: all weights of the best model, what the optimizers keep
beside it, every variable of the last checkpoint, and the history.

``workers_equal``: two processes on this machine, each with its rows of every batch, end within 1e-5 of one process.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.harness import finish, parser
from onehull.pipeline import Project, assemble, prepare
from onehull.spec import load_spec
from onehull.train.checkpoint import checkpoint_files

ROWS, USERS = 60_000, 100_000
DOCUMENT: dict[str, Any] = {
    "name": "survival",
    "data": {"samples": "samples.parquet", "user": "user",
             "split": {"by": "column", "column": "part", "validation": [1], "test": [2]}},
    "features": {"user": {"kind": "categorical", "min_count": 1}, "item": {"kind": "categorical", "min_count": 1},
                 "age": {"kind": "numeric"}},
    "tasks": {"click": {"kind": "binary", "label": "clicked"},
              "watch": {"kind": "regression", "label": "seconds", "transform": "log1p"}},
    "model": {"embedding_dim": 16, "bottom": [64, 32], "tower": [16], "dropout": 0.2},
    "balance": {"kind": "pcgrad"},
    # Slow enough that validation gets better for some epochs: the best model is written each time.
    "training": {"epochs": 10, "patience": 99, "batch_size": 128, "learning_rate": 1e-4,
                 "embedding_learning_rate": 1e-3, "checkpoint_minutes": 0.001, "precision": "float32",
                 "jit_compile": False},
}  # fmt: skip
WORKERS_TRAINING = {"epochs": 2, "batch_size": 512}
WITHIN = 1e-5


@dataclass
class Killed:
    """One training and what was done to it.

    Attributes:
        places: how far it had come at each kill: epoch and batch of the last checkpoint, None before the first.
        writing: kills in the middle of writing a file.
        seconds: of all its processes.
        bit_exact: whether it ended as the one that was never killed.
    """

    places: list[tuple[int, int] | None] = field(default_factory=list)
    writing: int = 0
    seconds: float = 0.0
    bit_exact: bool = False


@dataclass(frozen=True)
class Pace:
    """How long a training takes.

    Attributes:
        start_seconds: until its first checkpoint.
        training_seconds: from there to its end.
    """

    start_seconds: float
    training_seconds: float


class Bench:
    """A prepared project, and trainings of copies of it.

    Args:
        directory: for everything.
        document: the spec.
    """

    def __init__(self, directory: Path, document: dict[str, Any]) -> None:
        self.directory, self.document = directory, document
        self.spec = directory / "spec.json"
        directory.mkdir(parents=True)
        self.spec.write_text(json.dumps(document), encoding="utf-8")
        write_samples(directory / "samples.parquet")
        project = Project.open(load_spec(document), data=directory, out=directory / "prepared")
        assemble(project)
        prepare(project)

    def copy(self, name: str) -> Path:
        """An output directory in which everything but the training is there."""
        return Path(shutil.copytree(self.directory / "prepared", self.directory / name))

    def start(self, out: Path, *options: str) -> subprocess.Popen[bytes]:
        """Starts ``onehull train``."""
        arguments = ["train", str(self.spec), "--data", str(self.directory), "--out", str(out), *options]
        with (self.directory / f"{out.name}.log").open("ab") as log:
            command = [sys.executable, "-m", "onehull", *arguments]
            return subprocess.Popen(  # noqa: S603  our own program
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )

    def train(self, out: Path, *options: str) -> None:
        """Trains to the end.

        Raises:
            RuntimeError: the command failed.
        """
        status = self.start(out, *options).wait()
        if status:
            told = (self.directory / f"{out.name}.log").read_text(errors="replace")[-3000:]
            raise RuntimeError(f"onehull train ended with {status} in {out}:\n{told}")


def write_samples(path: Path) -> None:
    """Samples of two tasks with missing labels; something can be learned from them."""
    rng = np.random.default_rng(0)
    user, item, age = rng.integers(0, USERS, ROWS), rng.integers(0, 2_000, ROWS), rng.normal(size=ROWS)
    score = age + 0.5 * np.sin(user) + np.cos(item)
    there = rng.uniform(size=(2, ROWS)) > 0.2
    clicked = (score + rng.normal(size=ROWS) > 0).astype(float)
    frame = pl.DataFrame(
        {
            "user": [f"u{value}" for value in user],
            "item": [f"i{value}" for value in item],
            "age": age,
            "part": np.r_[np.zeros(ROWS - 8_000, int), np.ones(4_000, int), np.full(4_000, 2)],
            "clicked": [value if ok else None for value, ok in zip(clicked, there[0], strict=True)],
            "seconds": [value if ok else None for value, ok in zip(np.exp(score), there[1], strict=True)],
        }
    )
    frame.write_parquet(path)


def result_of(out: Path) -> dict[str, Any]:
    """Everything that a training leaves behind and that must be the same: arrays by name, and the history."""
    training = out / "training"
    found: dict[str, Any] = {}
    for file in (training / "slots.npz", checkpoint_files(training / "checkpoints")[-1]):
        with np.load(file) as arrays:
            found |= {f"{file.name}/{key}": arrays[key] for key in arrays.files if key != "progress"}
    with zipfile.ZipFile(training / "model.keras") as model:
        found["model.keras"] = np.frombuffer(model.read("model.weights.h5"), np.uint8)
    progress = json.loads((training / "history.json").read_text(encoding="utf-8"))
    return {**found, "history": progress["history"], "best_epoch": progress["best_epoch"]}


def same_bits(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two trainings ended in the same bits; says what differs."""
    different = [
        key
        for key in {**first, **second}
        if key not in first or key not in second or as_bytes(first[key]) != as_bytes(second[key])
    ]
    if different:
        print(f"  differ: {different[:8]} and {len(different) - 8} more", file=sys.stderr)
    return not different


def as_bytes(value: Any) -> bytes:
    """What is compared."""
    return value.tobytes() if isinstance(value, np.ndarray) else json.dumps(value).encode()


def killed_training(bench: Bench, name: str, kills: int, pace: Pace, draw: random.Random) -> Killed:
    """Trains, killed some times at random moments, until it is done.

    Args:
        bench: the project.
        name: of the output directory.
        kills: how often it is to be killed; less where it is done before.
        pace: of a training that is not killed.
        draw: random numbers.
    """
    out, found, begun = bench.copy(name), Killed(), time.monotonic()
    checkpoints = out / ".training.partial" / "checkpoints"
    for number in range(kills):
        process, started = bench.start(out), time.time()
        delay = draw.uniform(0, pace.start_seconds)
        if number or draw.random() < 0.5:
            _wait_for_checkpoint(process, checkpoints)
            delay = draw.uniform(0, 1.4 * pace.training_seconds / kills)
        if number == kills - 1:
            _wait_for_file(process, out, started)
            delay = draw.uniform(0, 0.01)
        try:
            status = process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            if status:
                raise RuntimeError(f"onehull train ended with {status} in {out}")
            break
        found.places.append(_place(checkpoints))
        found.writing += _unfinished(out, started)
    bench.train(out)
    found.seconds = time.monotonic() - begun
    return found


def _wait_for_checkpoint(process: subprocess.Popen[bytes], checkpoints: Path) -> None:
    """Waits until a process has written its first checkpoint, or has ended."""
    before = _place(checkpoints)
    while process.poll() is None and _place(checkpoints) == before:
        time.sleep(0.005)


def _wait_for_file(process: subprocess.Popen[bytes], out: Path, since: float) -> None:
    """Waits until a process begins to write a checkpoint or a model, or has ended."""
    while process.poll() is None and not _unfinished(out, since):
        time.sleep(0.001)


def _place(checkpoints: Path) -> tuple[int, int] | None:
    files = checkpoint_files(checkpoints)
    if not files:
        return None
    _, epoch, batch = files[-1].stem.split("-")
    return int(epoch), int(batch)


def _unfinished(out: Path, since: float) -> bool:
    """Whether a process that began at a time was killed while it was writing a file."""
    training = out / ".training.partial"
    left = [*training.glob("checkpoints/.*.tmp"), *training.glob(".*.tmp"), *training.glob(".best/*")]
    with suppress(FileNotFoundError):  # it has just been moved into its place
        return any(path.stat().st_mtime >= since for path in left)
    return False


def undisturbed(bench: Bench, out: Path) -> Pace:
    """Trains without a kill."""
    begun = time.monotonic()
    process = bench.start(out)
    _wait_for_checkpoint(process, out / ".training.partial" / "checkpoints")
    started = time.monotonic()
    if process.wait():
        raise RuntimeError((bench.directory / f"{out.name}.log").read_text(errors="replace")[-3000:])
    return Pace(started - begun, time.monotonic() - started)


def largest_difference_of_workers(directory: Path) -> float:
    """Largest difference of a weight between a training by two workers and one by one."""
    document = {
        **DOCUMENT,
        "model": {**DOCUMENT["model"], "dropout": 0.0},
        "training": {**DOCUMENT["training"], **WORKERS_TRAINING},
    }
    bench = Bench(directory, document)
    one, two = bench.copy("one"), bench.copy("two")
    bench.train(one)
    bench.train(two, "--workers", "2")
    first, second = (weights(out) for out in (one, two))
    return max(float(np.abs(a - b).max()) for a, b in zip(first, second, strict=True))


def weights(out: Path) -> list[np.ndarray]:
    """Weights of a trained model."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from onehull.train.warm_start import load_model

    return list(load_model(out / "training" / "model.keras").get_weights())


def main() -> None:
    """Kills trainings."""
    options = parser(__doc__)
    options.add_argument("--seed", type=int, default=None, help="of the moments. Default: another one each time")
    arguments = options.parse_args()
    trainings, kills = (4, 6) if arguments.profile == "fast" else (12, 8)
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**31)
    with tempfile.TemporaryDirectory() as directory:
        found = killed_trainings(Path(directory) / "kills", trainings, kills, seed)
        difference = largest_difference_of_workers(Path(directory) / "workers")
    rows = [
        [str(number), str(len(one.places)), str(one.writing), _places(one), str(one.bit_exact)]
        for number, one in enumerate(found)
    ]
    result = {
        "profile": arguments.profile,
        "seed": seed,
        "trainings": trainings,
        "kills": sum(len(one.places) for one in found),
        "bit_exact": sum(len(one.places) for one in found if one.bit_exact),
        "kills_while_writing": sum(one.writing for one in found),
        "kills_before_a_checkpoint": sum(one.places.count(None) for one in found),
        "workers_difference": difference,
        "workers_equal": difference <= WITHIN,
    }
    columns = ["training", "kills", "while writing", "last checkpoints (epoch:batch)", "same bits"]
    finish("Killed with SIGKILL, then the same command", columns, rows, result, arguments.save)


def killed_trainings(directory: Path, trainings: int, kills: int, seed: int) -> list[Killed]:
    """Trains undisturbed, then some times with kills, two trainings at once."""
    bench = Bench(directory, DOCUMENT)
    whole = bench.copy("whole")
    pace = undisturbed(bench, whole)
    expected = result_of(whole)

    def one(number: int) -> Killed:
        name = f"killed-{number}"
        draw = random.Random(seed + number)  # noqa: S311  moments, no secrets
        killed = killed_training(bench, name, kills, pace, draw)
        killed.bit_exact = same_bits(expected, result_of(directory / name))
        verdict = "the same bits" if killed.bit_exact else "other bits"
        print(f"{name}: {len(killed.places)} kills, {verdict}, {killed.seconds:.0f} s", file=sys.stderr)
        return killed

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(trainings)))


def _places(killed: Killed) -> str:
    return " ".join("none" if place is None else f"{place[0] + 1}:{place[1]}" for place in killed.places)


if __name__ == "__main__":
    main()
