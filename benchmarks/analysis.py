"""How long analysis takes here and with TensorFlow Transform, and whether both find the same.

One table of a million rows, in Parquet: 26 columns of ids of a power law, ten numbers, three numbers for buckets, all
with holes; simulated by chance. Here it is `measure`; there a preprocessing function as its users write it, on Beam's
direct runner in one process (its default), fed with Arrow record batches, the fastest form that it takes. Its time is
a part before the first row and a part for each row, which falls while the vocabularies fill; ``--profile full`` runs
all rows, ``fast`` a tenth and a fifth, and extrapolates with the difference of these two. What is compared are the
results of ``--engine beam`` and of the local engine, over the largest of the sizes that were run.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import polars as pl
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam

from benchmarks.feed_model import FEATURES, NUMBERS, ZIPF
from benchmarks.harness import finish, pairs, parser, place
from onehull.beam.analyze import measure_on_beam
from onehull.beam.analyzers import RANKS, finite_values, present_texts, sketch_epsilon
from onehull.beam.rows import adapter_config, read_columns, record_batches
from onehull.beam.runner import pipeline_options, run
from onehull.features import Measured, measure
from onehull.features.transform import BucketsTransform, MomentsTransform, Transform, VocabularyTransform
from onehull.spec.features import CategoricalFeature, Feature, NumericFeature
from onehull.spec.samples import SPLIT, feature_column

ROWS = 1_000_000
GIVEN_ROWS = {"fast": (1_000, 100_000, 200_000), "full": (1_000, ROWS)}
"""What TensorFlow Transform is given."""
DISTINCT = 20_000
"""Ids of one column."""
MISSING = 0.05
BUCKETED, BUCKETS = 3, 16
ROUNDS = 5
PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "analyse-on-beam.md"
SHOWN = {
    "rows": ("rows", "{:,}"),
    "seconds": ("seconds, the local engine, median of ten", "{:.2f}"),
    "tensorflow_transform_seconds": ("seconds, TensorFlow Transform on the direct runner", "{:,.0f}"),
    "tensorflow_transform_fixed_seconds": ("of it before the first row", "{:.0f}"),
    "tensorflow_transform_rows_per_second": ("rows a second after that", "{:,.0f}"),
    "vs_tensorflow_transform": ("ratio", "{:.0f}"),
    "core_seconds": ("seconds that cores worked, the local engine", "{:.2f}"),
    "tensorflow_transform_core_seconds": ("seconds that cores worked, TensorFlow Transform", "{:,.0f}"),
    "vs_tensorflow_transform_cores": ("ratio of these", "{:.0f}"),
    "load_average": ("processes that wanted a core meanwhile, these included", "{:.1f}"),
    "compared_rows": ("rows of the comparison of results", "{:,}"),
    "largest_difference": ("largest relative difference of a moment", "{:.1e}"),
    "quantile_error": ("largest difference of a boundary's rank", "{:.1e}"),
    "quantile_error_promised": ("what the sketch promises", "{:.1e}"),
}
"""What the figures are called in tables."""

FEATURE_SET: dict[str, Feature] = {
    **{f"id_{index}": CategoricalFeature(kind="categorical") for index in range(FEATURES)},
    **{f"number_{index}": NumericFeature(kind="numeric") for index in range(NUMBERS - BUCKETED)},
    **{
        f"bucket_{index}": NumericFeature(kind="numeric", transform="buckets", buckets=BUCKETS)
        for index in range(BUCKETED)
    },
}


class Seconds(NamedTuple):
    """How long something took, and how long cores worked for it: this hardly depends on what else runs."""

    wall: float
    cores: float


def write_table(path: Path, rows: int) -> None:
    """Writes a samples table of training rows."""
    generator = np.random.default_rng(0)
    words = pl.Series([f"id-{value}" for value in range(DISTINCT)])
    columns = {SPLIT: pl.Series(["train"]).new_from_index(0, rows)}
    for name, feature in FEATURE_SET.items():
        if isinstance(feature, NumericFeature):
            values = pl.Series(generator.lognormal(3.0, 1.0, rows))
        else:
            values = words.gather(np.minimum(generator.zipf(ZIPF, rows), DISTINCT) - 1)
        missing = pl.Series(generator.random(rows) < MISSING)
        columns[feature_column(name)] = pl.select(pl.when(~missing).then(values)).to_series()
    pl.DataFrame(columns).write_parquet(path)


def local_seconds(path: Path) -> list[Seconds]:
    """Seconds of the local engine, several times."""
    took = [_seconds(lambda: measure(FEATURE_SET, pl.scan_parquet(path))) for _ in range(ROUNDS + 1)]
    return took[1:]  # the first one reads the file from disk


def tensorflow_transform_seconds(path: Path) -> Seconds:
    """Seconds of TensorFlow Transform's analysis on the direct runner."""
    with tempfile.TemporaryDirectory() as folder, tft_beam.Context(temp_dir=f"{folder}/temporary"):

        def build(pipeline: beam.Pipeline) -> None:
            rows = (
                pipeline
                | beam.io.ReadFromParquetBatched(str(path), columns=read_columns(FEATURE_SET))
                | beam.FlatMap(record_batches, FEATURE_SET, "train")
            )
            found = (rows, adapter_config(FEATURE_SET)) | tft_beam.AnalyzeDataset(preprocess)
            found | tft_beam.WriteTransformFn(f"{folder}/found")

        return _seconds(lambda: run(build, pipeline_options()))


def preprocess(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The three kinds of features, with TensorFlow Transform's own functions."""
    encoded: dict[str, Any] = {}
    for name, feature in FEATURE_SET.items():
        if isinstance(feature, CategoricalFeature):
            vocabulary = tft.vocabulary(present_texts(raw[name]), frequency_threshold=feature.min_count)
            encoded[name] = tft.apply_vocabulary(raw[name], vocabulary)
        elif isinstance(feature, NumericFeature) and feature.transform == "buckets":
            boundaries = tft.quantiles(finite_values(raw[name]), BUCKETS, sketch_epsilon(BUCKETS))
            encoded[name] = tft.apply_buckets(raw[name], boundaries)
        else:
            encoded[name] = tft.scale_to_z_score(raw[name])
    return encoded


def compare(local: Measured, found: Measured, column_of: Callable[[str], np.ndarray]) -> dict[str, Any]:
    """What the two engines differ in."""
    pairs = [(local.transform.features[name], found.transform.features[name], name) for name in FEATURE_SET]
    moments = [
        abs(here - there) / abs(here)
        for a, b, _ in pairs
        if isinstance(a, MomentsTransform) and isinstance(b, MomentsTransform)
        for here, there in ((a.mean, b.mean), (a.std, b.std))
    ]
    ranks = [
        np.abs(_ranks(a, column_of(name)) - _ranks(b, column_of(name))).max()
        for a, b, name in pairs
        if isinstance(a, BucketsTransform) and isinstance(b, BucketsTransform)
    ]
    return {
        "largest_difference": max(moments),
        "quantile_error": float(max(ranks)),
        "quantile_error_promised": sketch_epsilon(BUCKETS) + 1 / RANKS,
        "vocabularies_equal": _vocabularies(local.transform) == _vocabularies(found.transform)
        and all(local.counts.tables[name].equals(table) for name, table in found.counts.tables.items()),
    }


def _vocabularies(transform: Transform) -> dict[str, tuple[str, ...]]:
    return {name: f.values for name, f in transform.features.items() if isinstance(f, VocabularyTransform)}


def _ranks(buckets: BucketsTransform, sorted_N: np.ndarray) -> np.ndarray:
    """The share of values below each boundary."""
    return np.searchsorted(sorted_N, np.array(buckets.boundaries, np.float32)) / len(sorted_N)


def _sorted_column(path: Path) -> Callable[[str], np.ndarray]:
    def column(name: str) -> np.ndarray:
        values = pl.scan_parquet(path).select(pl.col(feature_column(name)).cast(pl.Float32).drop_nulls().sort())
        return values.collect().to_series().to_numpy()

    return column


def _seconds(action: Callable[[], object]) -> Seconds:
    begin, spent = time.perf_counter(), time.process_time()
    action()
    return Seconds(time.perf_counter() - begin, time.process_time() - spent)


def timed(tables: Mapping[int, Path], given: tuple[int, ...]) -> dict[str, float]:
    """The seconds of both engines; TensorFlow Transform's are extrapolated where it was not given all rows."""
    took = local_seconds(tables[ROWS])
    tensorflow_transform_seconds(tables[given[0]])  # warms up what is imported and traced once a process
    fixed, *others = (tensorflow_transform_seconds(tables[rows]) for rows in given)
    took += local_seconds(tables[ROWS])
    here = Seconds(*(statistics.median(values) for values in zip(*took, strict=True)))
    there = Seconds(*(_of_all_rows(values, given[1:]) for values in zip(*others, strict=True)))
    return {
        "vs_tensorflow_transform": there.wall / here.wall,
        "vs_tensorflow_transform_cores": there.cores / here.cores,
        "seconds": here.wall,
        "core_seconds": here.cores,
        "tensorflow_transform_seconds": there.wall,
        "tensorflow_transform_core_seconds": there.cores,
        "tensorflow_transform_fixed_seconds": fixed.wall,
        "tensorflow_transform_rows_per_second": (ROWS - given[0]) / (there.wall - fixed.wall),
        # Above the number of cores, other work slows the local engine, which uses all of them, more than the other.
        "load_average": os.getloadavg()[1],
    }


def _of_all_rows(seconds: tuple[float, ...], given: tuple[int, ...]) -> float:
    """Seconds of the largest table, and for the rows beyond it what the last ones took."""
    if given[-1] == ROWS:
        return seconds[-1]
    return seconds[-1] + (ROWS - given[-1]) * (seconds[-1] - seconds[-2]) / (given[-1] - given[-2])


def compared(path: Path, workspace: Path) -> dict[str, Any]:
    """What the two engines find in a table."""
    local, found = measure(FEATURE_SET, pl.scan_parquet(path)), measure_on_beam(FEATURE_SET, path, workspace)
    return compare(local, found, _sorted_column(path))


def main() -> None:
    """Measures, prints, saves."""
    options = parser(__doc__)
    options.add_argument("--docs", action="store_true", help="also put the table into the documentation")
    arguments = options.parse_args()
    given = GIVEN_ROWS[arguments.profile]
    with tempfile.TemporaryDirectory() as folder:
        tables = {rows: Path(folder) / f"{rows}.parquet" for rows in sorted({*given, ROWS})}
        for size, path in tables.items():
            write_table(path, size)
        result = {
            **timed(tables, given),
            **compared(tables[given[-1]], Path(folder) / "workspace"),
            "extrapolated": given[-1] < ROWS,
            "compared_rows": given[-1],
            "rows": ROWS,
            "columns": len(FEATURE_SET),
            "versions": {name: version(name) for name in ("tensorflow-transform", "apache-beam")},
            "profile": arguments.profile,
        }
    if arguments.docs:
        place(PAGE, "analysis", markdown(result))
    finish("Analysis of 39 columns", ["", "found"], shown(result), result, arguments.save)


def markdown(result: Mapping[str, Any]) -> str:
    """The table of the documentation."""
    return pairs(shown(result))


def shown(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was found, in words."""
    rows = [(name, form.format(result[key])) for key, (name, form) in SHOWN.items()]
    return [*rows, ("vocabularies and counts equal", "yes" if result["vocabularies_equal"] else "no")]


if __name__ == "__main__":
    main()
