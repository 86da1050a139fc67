"""How fast shards are read, and whether training waits for them.

Three questions, in turns, so that a machine that slows down slows all: rows a second of a shuffled pass over blocks
from disk, against tf.data that parses one Example a row of 42 scalar features, batch by batch and not even shuffled;
examples a second of training from disk, against training from memory; bytes and rows a second of each layout and
compression. Simulated data: ids of a power law, numbers and labels by chance. Files are in the system's page cache.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.progress import track

from benchmarks.feed_model import BATCH, FEATURES, NUMBERS, ZIPF, feed_model
from benchmarks.harness import finish, pairs, parser, place
from onehull.optimizers import RowwiseAdagrad
from onehull.records import LabelStatistics, RecordsManifest, read_records
from onehull.records.example import Column, ExampleEncoder, id_bytes
from onehull.records.manifest import MANIFEST
from onehull.records.row_plan import LABEL_PREFIX, plan_row
from onehull.records.shard_writer import ShardWriter
from onehull.records.words import RowWords
from onehull.spec.inputs import ModelInput
from onehull.spec.records import Compression, Layout, Records
from onehull.train.steps import Steps

TABLE_ROWS, TASKS = 10_000, 3
BLOCK_ROWS = {"fast": 1_000_000, "full": 2_000_000}
EXAMPLE_ROWS = 200_000
"""Rows of the layouts that are read slowly."""
ROUNDS = {"fast": 7, "full": 15}
PASSES = {"fast": 3, "full": 7}
"""Of training, over a million rows each, with the start of the pass: what is streamed in earnest is longer."""
STEPS = 240
TASK_NAMES = tuple(f"task_{index}" for index in range(TASKS))
IDS = tuple(ModelInput(name=f"id_{index}", kind="id", rows=TABLE_ROWS) for index in range(FEATURES))
SCALARS = (*IDS, *(ModelInput(name=f"number_{index}", kind="dense") for index in range(NUMBERS)))
"""42 features with the labels: as one Example a row usually holds them."""
MODEL_INPUTS = (*IDS, ModelInput(name="numbers", kind="dense", length=NUMBERS))
"""The same values as the model takes them."""


PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "input.md"
SHOWN = {
    "rows_per_second": ("rows/s, blocks from disk, shuffled", "{:,.0f}"),
    "row_examples_per_second": ("rows/s, one Example a row, as tf.data parses it", "{:,.0f}"),
    "rows_per_second_vs_row_examples": ("ratio, median of the turns", "{:.1f}"),
    "training_from_disk_per_second": ("training from disk, examples/s", "{:,.0f}"),
    "training_from_memory_per_second": ("training from memory, examples/s", "{:,.0f}"),
    "disk_vs_memory_training": ("ratio, median of the turns", "{:.2f}"),
    "first_batch_ms_from_start": ("ms to the first batch of a pass", "{:.0f}"),
    "first_batch_ms_from_middle": ("ms to the first batch from the middle of a pass", "{:.0f}"),
}
"""What the figures are called in tables."""


def drawn(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of simulated values by feature, with both forms of the numbers."""
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(rows, NUMBERS)).astype(np.float32)
    values: dict[str, np.ndarray] = {
        item.name: np.minimum(generator.zipf(ZIPF, rows), TABLE_ROWS).astype(np.int32) - 1 for item in IDS
    }
    values |= {f"number_{index}": numbers[:, index] for index in range(NUMBERS)}
    labels = {f"{LABEL_PREFIX}{task}": (generator.random(rows) < 0.3).astype(np.float32) for task in TASK_NAMES}
    return {**values, "numbers": numbers, **labels}


def write(
    directory: Path, values: Mapping[str, np.ndarray], rows: int, settings: Records, inputs: tuple[ModelInput, ...]
) -> float:
    """Writes the same 65,536 rows again and again, as the training part; seconds without drawing them."""
    start = time.perf_counter()
    directory.mkdir()
    plan = plan_row(inputs, TASK_NAMES) if settings.layout == "blocks" else None
    laid_out = _examples(inputs).encode if plan is None else RowWords(plan, inputs, TASK_NAMES).pack
    writer = ShardWriter(directory, "train", settings)
    size = len(next(iter(values.values())))
    for first in range(0, rows, size):
        writer.write(laid_out({name: value[: rows - first] for name, value in values.items()}))
    statistic = LabelStatistics(rows=rows, labels=rows, positives=rows // 3, mean=0.3)
    manifest = RecordsManifest(
        inputs=inputs,
        tasks=TASK_NAMES,
        splits={"train": writer.finish(), "validation": (), "test": ()},
        labels=dict.fromkeys(TASK_NAMES, statistic),
        settings=settings,
        row=plan,
    )
    (directory / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
    return time.perf_counter() - start


def _examples(inputs: tuple[ModelInput, ...]) -> ExampleEncoder:
    columns = [Column(i.name, i.length, 0 if i.kind == "dense" else id_bytes(i.rows - 1)) for i in inputs]
    return ExampleEncoder([*columns, *(Column(f"{LABEL_PREFIX}{task}", 1) for task in TASK_NAMES)])


def row_examples(directory: Path) -> tf.data.Dataset:
    """One Example a row as the field reads it: a batch of Examples is parsed at once, on all cores."""
    formats = {i.name: tf.io.FixedLenFeature((), tf.int64) for i in IDS}
    names = [f"number_{index}" for index in range(NUMBERS)] + [f"{LABEL_PREFIX}{task}" for task in TASK_NAMES]
    formats |= {name: tf.io.FixedLenFeature((), tf.float32) for name in names}
    files = sorted(map(str, directory.glob("*.tfrecord")))
    records = tf.data.TFRecordDataset(files, num_parallel_reads=tf.data.AUTOTUNE)
    parsed = records.batch(BATCH).map(lambda x: tf.io.parse_example(x, formats), num_parallel_calls=tf.data.AUTOTUNE)
    return parsed.prefetch(tf.data.AUTOTUNE)


def shuffled(directory: Path, epoch: int) -> tf.data.Dataset:
    """A shuffled pass from disk."""
    return read_records(directory, "train", batch_size=BATCH, shuffle=True, epoch=epoch, memory_limit_bytes=0)


def seconds(dataset: tf.data.Dataset) -> float:
    """Draws all batches in one compiled call, as training does."""
    begin = time.perf_counter()
    _drain(iter(dataset), tf.constant(int(dataset.cardinality())))
    return time.perf_counter() - begin


@tf.function(reduce_retracing=True, autograph=False)
def _drain(iterator: Any, count: Any) -> Any:
    def body(done: Any) -> tuple[Any]:
        iterator.get_next()
        return (done + 1,)

    return tf.while_loop(lambda done: done < count, body, (tf.constant(0),), parallel_iterations=1)


def reading(blocks: Path, block_rows: int, examples: Path, rounds: int) -> dict[str, float]:
    """Rows a second of both, and the median of the ratios."""
    count = -(-EXAMPLE_ROWS // BATCH)
    pairs = []
    for turn in track(range(rounds + 1), description="reading", transient=True):
        ours = block_rows / seconds(shuffled(blocks, turn))
        others = EXAMPLE_ROWS / seconds(row_examples(examples).apply(tf.data.experimental.assert_cardinality(count)))
        pairs.append((ours, others))
    ours, others = (statistics.median(values) for values in zip(*pairs[1:], strict=True))  # the first one warms up
    return {
        "rows_per_second_vs_row_examples": statistics.median(a / b for a, b in pairs[1:]),
        "rows_per_second": ours,
        "row_examples_per_second": others,
    }


def training(directory: Path, rounds: int) -> dict[str, float]:
    """Examples a second of training from disk and from memory, and the median of the ratios."""
    model = feed_model(TASKS, TABLE_ROWS)
    loss = dict.fromkeys(model.task_names, "binary_crossentropy")
    model.compile(keras.optimizers.Adam(), loss=loss, embedding_optimizer=RowwiseAdagrad(), jit_compile=False)
    steps = Steps(model)
    limits = {"disk": 0, "memory": 1 << 40}
    rates: dict[str, list[float]] = {name: [] for name in limits}
    for turn in track(range(rounds + 1), description="training", transient=True):
        for name in sorted(limits, reverse=bool(turn % 2)):
            batches = read_records(
                directory, "train", batch_size=BATCH, shuffle=True, epoch=turn, memory_limit_bytes=limits[name]
            )
            rates[name].append(STEPS * BATCH / _seconds_of(steps, batches))
    disk, memory = rates["disk"][1:], rates["memory"][1:]  # the first ones trace, and load the memory
    return {
        "disk_vs_memory_training": statistics.median(a / b for a, b in zip(disk, memory, strict=True)),
        "training_from_disk_per_second": statistics.median(disk),
        "training_from_memory_per_second": statistics.median(memory),
    }


def _seconds_of(steps: Steps, batches: tf.data.Dataset) -> float:
    begin = time.perf_counter()
    steps(iter(batches), STEPS)
    return time.perf_counter() - begin


def layouts(directory: Path, values: Mapping[str, np.ndarray], rounds: int) -> dict[str, dict[str, float]]:
    """Bytes of a row, rows a second written and read in a shuffled pass, by layout and compression."""
    kinds: list[tuple[Layout, Compression]] = [
        (layout, compression) for layout in ("blocks", "rows") for compression in ("none", "gzip", "zlib")
    ]
    found: dict[str, dict[str, float]] = {}
    reads: dict[str, Callable[[int], float]] = {}
    for layout, compression in track(kinds, description="layouts", transient=True):
        name, rows = f"{layout}, {compression}", EXAMPLE_ROWS * (5 if layout == "blocks" else 1)
        settings = Records(layout=layout, compression=compression, rows_per_shard=65_536)
        place = directory / f"{layout}_{compression}"
        took = write(place, values, rows, settings, MODEL_INPUTS)
        size = sum(file.stat().st_size for file in place.glob("*.tfrecord"))
        found[name] = {"bytes_per_row": size / rows, "write_rows_per_second": rows / took}
        reads[name] = lambda epoch, place=place, rows=rows: rows / seconds(shuffled(place, epoch))  # type: ignore[misc]
    rates = {name: [read(turn) for turn in range(rounds)] for name, read in reads.items()}
    return {name: {**found[name], "rows_per_second": statistics.median(rates[name][1:])} for name in found}


def first_batch_ms(directory: Path) -> dict[str, float]:
    """Milliseconds until the first batch of a pass from disk: from its start, and from its middle."""
    middle = int(shuffled(directory, 0).cardinality()) // 2
    took: dict[str, list[float]] = {"start": [], "middle": []}
    for turn in range(5):
        for name, start_batch in (("start", 0), ("middle", middle)):
            begin = time.perf_counter()
            next(iter(read_records(
                directory, "train", batch_size=BATCH, shuffle=True, epoch=turn, start_batch=start_batch,
                memory_limit_bytes=0,
            )))  # fmt: skip
            took[name].append(1000 * (time.perf_counter() - begin))
    return {f"first_batch_ms_from_{name}": statistics.median(values[1:]) for name, values in took.items()}


def main() -> None:
    """Measures, prints, saves."""
    options = parser(__doc__)
    options.add_argument("--docs", action="store_true", help="also put the table into the documentation")
    arguments = options.parse_args()
    rows, rounds = BLOCK_ROWS[arguments.profile], ROUNDS[arguments.profile]
    values = drawn(65_536)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        took = write(root / "scalars", values, rows, Records(), SCALARS)
        write(root / "examples", values, EXAMPLE_ROWS, Records(layout="rows"), SCALARS)
        write(root / "model", values, rows, Records(), MODEL_INPUTS)
        result: dict[str, Any] = {
            **reading(root / "scalars", rows, root / "examples", rounds),
            **training(root / "model", PASSES[arguments.profile]),
            **first_batch_ms(root / "scalars"),
            "write_rows_per_second": rows / took,
            "layouts": layouts(root, values, 4),
            "profile": arguments.profile,
        }
    digits = _digits(result)
    if arguments.docs:
        place(PAGE, "input", markdown(digits))
    finish("Input", ["", "median"], [*_figures(digits), *_layouts(digits)], digits, arguments.save)


def markdown(result: Mapping[str, Any]) -> str:
    """The tables of the documentation."""
    head = ["", "| layout, compression | bytes a row, rows/s read and written |", "|---|---:|"]
    return "\n".join([pairs(_figures(result)), *head, *(f"| {name} | {value} |" for name, value in _layouts(result))])


def _figures(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, unit.format(result[key])) for key, (name, unit) in SHOWN.items()]


def _layouts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    text = "{bytes_per_row:.0f} B, {rows_per_second:,.0f}, {write_rows_per_second:,.0f}"
    return [(name, text.format(**kind)) for name, kind in result["layouts"].items()]


def _digits(value: Any) -> Any:
    """Four digits of every number."""
    if isinstance(value, dict):
        return {key: _digits(found) for key, found in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
