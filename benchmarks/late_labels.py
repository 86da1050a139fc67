"""Labels that come late, on a world whose true probabilities are known: by how much is each way of waiting biased?

A world is simulated, and its log is read as a stream up to a moment T, some days before it ends. The same model is
trained, for each way, on the rows that left the stream in the days before T, and predicts purchases of impressions that
are held out: of the days of its training, and of the day after T. Their true probability is known: that of the world,
times the share of purchases that come within the window and whose line names its impression. The world changes from day
to day (videos are added), so that the day after T also tells how well the model carries over; labels alone are judged
on the days of training.

One pass of stochastic steps does not end where a loss wants it: the mean prediction is a few per cent above or below by
chance. So that the loss is seen and not the chance, a constant is added to the trained model's logits with which the
gradient of the way's own loss with respect to that constant is 0 over its training rows (*where the gradient is 0*).
Rows hold some ten thousand purchases, a number that is itself uncertain by a per cent; most of that is common to all
ways of a world, and gone from the ratio to ``all labels``.

The days of training are those whose impressions rows are made of: for ``wait`` they are a day older, and ``from the
log's first day`` is judged on the same days as the others.

- ``all labels``: impressions of the days before T with their final labels, which nobody has at T.
- ``wait``: rows leave when their windows close.
- ``fnw``, ``es_dfm``, ``defer``: see `onehull.model.late_labels`; the last two wait an hour.
- ``… rows, plain loss``: the rows of each, with the cross-entropy that knows of nothing.
- ``1 h, never again``: rows leave after an hour, as they are; what comes later is forgotten.
- ``… from the log's first day``: rows that left since the log's beginning.

Each figure has the mean over worlds, and its standard error.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import polars as pl

from benchmarks.harness import finish, parser, place
from onehull.events.stream import Stream
from onehull.features import measure
from onehull.metrics import auc
from onehull.model.late_labels import Kind, LateCrossentropy, stream_weights
from onehull.records import read_manifest, read_records, write_records
from onehull.spec import Spec, load_spec
from onehull.spec.samples import REPEATS, SAMPLE, SPLIT, TIME
from onehull.train import predict, train
from onehull.world import simulate
from onehull.world.log import ORPHAN_SHARE

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "late-labels.md"
TASK = "purchase"
WINDOW_HOURS, LATENESS = 24, "10m"
DAYS, FROM_DAY, UNTIL_DAY = 8, 2, 6
"""The log's days; training is on what left the stream between two of them, the day after is predicted."""
PURCHASE_RATE = 0.04
WORLDS = {"fast": 1, "full": 6}
USERS = {"fast": 1500, "full": 6000}
ITEMS, EPOCHS, BATCH = 300, 1, 256

WAIT: dict[str, Any] = {}
FNW = {"late": {"kind": "fnw"}}
ES_DFM = {"late": {"kind": "es_dfm", "wait": "1h"}}
DEFER = {"late": {"kind": "defer", "wait": "1h"}}
STREAMS: dict[str, dict[str, Any]] = {"wait": WAIT, "fnw": FNW, "es_dfm": ES_DFM, "defer": DEFER}
"""What the task says, for each way in which rows leave."""


@dataclass(frozen=True)
class Way:
    """What a model is trained on, and how.

    Attributes:
        stream: how rows leave.
        corrected: whether the loss makes up for labels that are not final.
        again: whether second rows are used.
        all_labels: final labels of everything, whenever they came.
        whole: rows that left since the log's beginning.
    """

    stream: Literal["wait", Kind]
    corrected: bool = True
    again: bool = True
    all_labels: bool = False
    whole: bool = False


WAYS: dict[str, Way] = {
    "all labels": Way("wait", all_labels=True),
    "wait": Way("wait"),
    "fnw": Way("fnw"),
    "es_dfm": Way("es_dfm"),
    "defer": Way("defer"),
    "fnw's rows, plain loss": Way("fnw", corrected=False),
    "es_dfm's rows, plain loss": Way("es_dfm", corrected=False),
    "defer's rows, plain loss": Way("defer", corrected=False),
    "1 h, never again": Way("es_dfm", corrected=False, again=False),
    "fnw, from the log's first day": Way("fnw", whole=True),
    "es_dfm, from the log's first day": Way("es_dfm", whole=True),
    "defer, from the log's first day": Way("defer", whole=True),
}
SHOWN = {
    "own_pcoc": ("mean prediction / mean truth, days of training", 3),
    "level_pcoc": ("the same where the gradient is 0", 3),
    "against_all_labels": ("that / that of all labels", 3),
    "pcoc": ("mean prediction / mean truth, day after", 3),
    "excess_log_loss": ("log loss above the truth's, ·10⁻³", 2),
    "auc": ("AUC", 4),
}

Figures = dict[str, float]


def recipe(fields: Mapping[str, Any], rows: int = 1, seed: int = 0) -> Spec:
    """The recipe of the simulated feed with clicks and purchases.

    Args:
        fields: what the purchase says besides.
        rows: of training. The learning rate falls to nothing over them: what steps at the end do by chance moves the
            mean prediction by some per cent otherwise.
        seed: of training.
    """
    document = load_spec(ROOT / "recipes" / "video_feed.yaml").model_dump(mode="json", exclude_unset=True)
    document["data"]["events"]["lateness"] = LATENESS
    purchase = {"kind": "binary", "event": "purchase", "window": f"{WINDOW_HOURS}h", **fields}
    document["tasks"] = {"click": document["tasks"]["click"], TASK: purchase}
    # One pass learns what users have in common; what one of them is like would be learned by heart, or not at all.
    document["features"].pop("user_id")
    document["model"]["dropout"] = 0.0
    document |= {"balance": {"kind": "static"}, "fusion": {"formula": "click + 20 * purchase"}}
    steps = EPOCHS * math.ceil(rows / BATCH)
    document["training"] |= {"epochs": EPOCHS, "batch_size": BATCH, "patience": EPOCHS, "seed": seed,
                             "tensorboard": False,
                             "deterministic": False, "jit_compile": False, "precision": "float32",
                             "schedule": {"kind": "cosine", "decay_steps": steps}}  # fmt: skip
    return load_spec(document)


class Log:
    """A world's log, of which a stream has seen the first days.

    Args:
        world: where it was simulated.
        directory: for what has been seen, and for the stream.
        spec: what the stream makes of it.
    """

    def __init__(self, world: Path, directory: Path, spec: Spec) -> None:
        self._world, self._directory, self._spec = world, directory, spec
        (directory / "data").mkdir(parents=True)
        for name in ("users.jsonl", "items.jsonl"):
            os.link(world / name, directory / "data" / name)

    def read(self, days: int) -> pl.DataFrame:
        """Reads the log up to the end of a day, and returns all rows that have left, in the order in which they did."""
        for name in ("impressions", "feedback"):
            for path in sorted(self._world.glob(f"{name}-*.jsonl"))[:days]:
                seen = self._directory / "data" / path.name
                if not seen.exists():
                    os.link(path, seen)
        stream = Stream(self._spec, self._directory / "data", self._directory / "stream", "benchmark")
        stream.run()
        return pl.read_parquet(stream.sample_files())


@dataclass(frozen=True)
class Left:
    """Rows that left a stream: before its stretch, in it, and after it."""

    before: pl.DataFrame
    within: pl.DataFrame
    after: pl.DataFrame


def let_go(world: Path, directory: Path, name: str) -> Left:
    """Reads a world's log as a stream, with pauses at the two ends of the stretch."""
    log = Log(world, directory / name, recipe(STREAMS[name]))
    before = len(log.read(FROM_DAY))
    rows = log.read(UNTIL_DAY)
    until = len(rows)
    if name == "wait":
        rows = log.read(DAYS)
    return Left(rows[:before], rows[before:until], rows[until:])


def training_rows(way: Way, left: Left, begin: Any) -> pl.LazyFrame:
    """The rows that a way trains on.

    Args:
        way: the way.
        left: rows of its stream.
        begin: the log's first day.
    """
    if way.all_labels:
        rows = pl.concat([left.before, left.within, left.after]).lazy()
        return rows.filter(pl.col(TIME).is_between(_day(begin, FROM_DAY), _day(begin, UNTIL_DAY), closed="left"))
    rows = (pl.concat([left.before, left.within]) if way.whole else left.within).lazy()
    return rows if way.again else rows.filter(pl.col(REPEATS).is_null())


def _day(begin: Any, number: int) -> pl.Expr:
    return pl.lit(begin) + pl.duration(days=number)


def held_out() -> pl.Expr:
    """Impressions that nobody trains on: a fifth."""
    return pl.col(SAMPLE).hash(seed=1) % 5 == 0


def judged_rows(wait: Left, begin: Any) -> pl.LazyFrame:
    """Impressions that are held out, with final labels: some choose the epoch, the others are the test."""
    rows = pl.concat([wait.before, wait.within, wait.after]).lazy()
    days = pl.col(TIME).is_between(_day(begin, FROM_DAY - 1), _day(begin, UNTIL_DAY + 1), closed="left")
    chosen = pl.when(pl.col(SAMPLE).hash(seed=2) % 5 == 0).then(pl.lit("validation")).otherwise(pl.lit("test"))
    return rows.filter(held_out() & days).with_columns(chosen.alias(SPLIT))


@dataclass(frozen=True)
class Trained:
    """A model, by what it says.

    Attributes:
        rows: of training.
        predictions: for the test rows ``(N,)``.
        constant: what its logits lack for a gradient of 0 over the training rows, see `stationary_constant`.
    """

    rows: int
    predictions: np.ndarray
    constant: float

    @property
    def stationary(self) -> np.ndarray:
        """The predictions with the constant ``(N,)``."""
        return _moved(self.predictions, self.constant)


def trained(way: Way, rows: pl.LazyFrame, judged: pl.LazyFrame, directory: Path, seed: int) -> Trained:
    """Trains one model."""
    table = directory / "samples.parquet"
    directory.mkdir(parents=True)
    parts = [rows.filter(~held_out()).with_columns(pl.lit("train").alias(SPLIT)), judged]
    pl.concat(parts, how="diagonal").collect().write_parquet(table)
    samples = pl.scan_parquet(table)
    count = samples.filter(pl.col(SPLIT) == "train").select(pl.len()).collect().item()
    spec = recipe(STREAMS[way.stream] if way.corrected else WAIT, count, seed)
    records = directory / "records"
    write_records(table, measure(spec.features, samples).transform, list(spec.tasks), records)
    result = train(spec, records, directory / "training", progress=False)
    model = keras.models.load_model(result.model_path, compile=False)
    predictions = predict(model, read_records(records, "test", batch_size=8192))[TASK]
    seen = predict(model, read_records(records, "train", batch_size=8192))[TASK]
    labels = np.concatenate([label[TASK].numpy() for _, label in read_records(records, "train", batch_size=8192)])
    known = ~np.isnan(labels)
    weights = weights_of(way, read_manifest(records).labels[TASK].late_share)
    keras.backend.clear_session()
    return Trained(count, predictions, stationary_constant(seen[known], labels[known], weights))


Weights = Callable[[np.ndarray], tuple[Any, Any]]


def weights_of(way: Way, late_share: float | None) -> Weights:
    """The weights of a 1 and of a 0 in a way's loss, of predictions."""
    if not way.corrected or way.stream == "wait" or late_share is None:
        return lambda _: (1.0, 1.0)
    loss = LateCrossentropy(way.stream, late_share)
    return lambda p: stream_weights(loss.kind, p, loss.late_share * p)


def stationary_constant(predictions: np.ndarray, labels: np.ndarray, weights: Weights) -> float:
    """The constant that the logits of predictions lack: with it the gradient with respect to it is 0.

    No gradient flows through the weights, as in training.
    """

    def gradient(constant: float) -> float:
        p = _moved(predictions, constant)
        positive, negative = weights(p)
        return float(np.where(labels == 1.0, positive * (p - 1.0), negative * p).sum())

    low, high = -10.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if gradient(middle) > 0 else (middle, high)
    return (low + high) / 2


def _moved(predictions: np.ndarray, constant: float) -> np.ndarray:
    p = np.clip(predictions.astype(np.float64), 1e-7, 1 - 1e-7)
    return 1.0 / (1.0 + np.exp(-(np.log(p) - np.log1p(-p) + constant)))


def inside_share() -> float:
    """Share of the world's purchases that come within the window and name their impression."""
    deviations = math.log(WINDOW_HOURS / 4.0) / 0.9
    return (1.0 - ORPHAN_SHARE) * 0.5 * (1.0 + math.erf(deviations / math.sqrt(2.0)))


@dataclass(frozen=True)
class Judged:
    """What predictions are compared with.

    Attributes:
        day: of each impression, counted from the log's first, ``(N,)``.
        truth: probability of a purchase inside the window ``(N,)``.
        label: what happened ``(N,)``.
    """

    day: np.ndarray
    truth: np.ndarray
    label: np.ndarray

    def figures(self, model: Trained, way: Way) -> Figures:
        """How predictions compare with true probabilities, and with what happened."""
        back = 1 if way.stream == "wait" and not way.all_labels else 0  # what leaves today was shown yesterday
        own = (self.day >= FROM_DAY - back) & (self.day < UNTIL_DAY - back)
        after = self.day == UNTIL_DAY
        truth, predicted = self.truth[after], model.predictions[after]
        return {
            "rows": float(model.rows),
            "own_pcoc": float(model.predictions[own].mean() / self.truth[own].mean()),
            "level_pcoc": float(model.stationary[own].mean() / self.truth[own].mean()),
            "pcoc": float(predicted.mean() / truth.mean()),
            "excess_log_loss": 1e3 * (_cross_entropy(truth, predicted) - _cross_entropy(truth, truth)),
            "auc": float(auc(self.label[after], predicted) or 0.0),
        }


def known_truth(world: Path, judged: pl.LazyFrame, begin: Any) -> Judged:
    """The truth of the test rows."""
    days = ((pl.col(TIME) - begin).dt.total_seconds() // 86400).alias("day")
    test = judged.filter(pl.col(SPLIT) == "test").select(SAMPLE, days, label=f"y.{TASK}").collect()
    known = pl.read_parquet(world / "truth.parquet", columns=[SAMPLE, TASK])
    truth = test.join(known, on=SAMPLE, how="left", maintain_order="left")[TASK].to_numpy() * inside_share()
    return Judged(test["day"].to_numpy(), truth, test["label"].to_numpy())


def _cross_entropy(truth: np.ndarray, predicted: np.ndarray) -> float:
    p = np.clip(predicted.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean())


def in_world(seed: int, users: int, ways: Mapping[str, Way], directory: Path) -> dict[str, Figures]:
    """Trains every way in one world."""
    world = directory / "world"
    simulate(world, users=users, items=ITEMS, days=DAYS, seed=seed, purchase_rate=PURCHASE_RATE)
    left = {name: let_go(world, directory, name) for name in STREAMS}
    begin = left["wait"].before.select(pl.col(TIME).min().dt.truncate("1d")).item()
    judged = judged_rows(left["wait"], begin)
    test = known_truth(world, judged, begin)
    found: dict[str, Figures] = {}
    for name, way in ways.items():
        begun = time.monotonic()
        rows = training_rows(way, left[way.stream], begin)
        found[name] = test.figures(trained(way, rows, judged, directory / f"way-{len(found)}", seed), way)
        print(f"world {seed}, {name}: {found[name]}, {time.monotonic() - begun:.0f} s", flush=True)
    for one in found.values():
        one["against_all_labels"] = one["level_pcoc"] / found["all labels"]["level_pcoc"]
    return found


def table(found: Mapping[str, Sequence[Figures]]) -> list[list[str]]:
    """A row a way: mean over worlds, and its standard error where there are several."""
    rows = []
    for name, worlds in found.items():
        cells = [f"{statistics.mean(one['rows'] for one in worlds):,.0f}"]
        rows.append(
            [name, *cells, *(_cell([one[key] for one in worlds], digits) for key, (_, digits) in SHOWN.items())]
        )
    return rows


def _cell(numbers: Sequence[float], digits: int) -> str:
    error = statistics.stdev(numbers) / math.sqrt(len(numbers)) if len(numbers) > 1 else None
    return f"{statistics.mean(numbers):.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")


HEAD = ["way", "rows", *(title for title, _ in SHOWN.values())]


def markdown(result: Mapping[str, Any]) -> str:
    """The table of the documentation."""
    lines = [f"| {' | '.join(HEAD)} |", f"|---|{'---:|' * (len(HEAD) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in table(result["ways"]))])


def main() -> None:
    """Compares the ways."""
    options = parser(__doc__)
    options.add_argument("--docs", action="store_true", help="also put the table into the documentation")
    arguments = options.parse_args()
    profile = arguments.profile
    found: dict[str, list[Figures]] = {name: [] for name in WAYS}
    for seed in range(WORLDS[profile]):
        with tempfile.TemporaryDirectory() as directory:
            for name, one in in_world(seed, USERS[profile], WAYS, Path(directory)).items():
                found[name].append(one)
    result = {
        "profile": profile,
        "worlds": WORLDS[profile],
        "users": USERS[profile],
        "purchase_rate": PURCHASE_RATE,
        "inside_share": inside_share(),
        "ways": found,
    }
    if arguments.docs:
        place(PAGE, "late_labels", markdown(result))
    finish("Purchases that come late, on a simulated world", HEAD, table(found), result, arguments.save)


if __name__ == "__main__":
    main()
