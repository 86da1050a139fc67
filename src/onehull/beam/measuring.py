"""The pipeline of analysis: Parquet → record batches → TensorFlow Transform's analyzers → what they found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam

from onehull.beam.analyzers import bucket_boundaries, moments, present_texts
from onehull.beam.rows import adapter_config, read_columns, record_batches
from onehull.beam.runner import run
from onehull.spec.features import Feature, ListFeature, NumericFeature

_NOTHING = {"49d0cd50-04bb-48c0-bc6f-5b575dce351a": 1}
"""What TensorFlow Transform writes as the vocabulary of a feature without ids."""


@dataclass(frozen=True)
class Found:
    """What the analyzers found.

    Attributes:
        counts: by feature with a vocabulary, how often each id occurs, in any order.
        numbers: by numeric feature, float64: mean, deviation and 1 where a row has no number, or the boundaries of
            its buckets, filled up with infinity.
    """

    counts: Mapping[str, Mapping[str, int]]
    numbers: Mapping[str, np.ndarray]


def find(features: Mapping[str, Feature], samples: str, workspace: str, options: Any) -> Found:
    """Runs the pipeline.

    Args:
        features: categorical and list features with a vocabulary, numeric ones.
        samples: path of the samples table.
        workspace: directory that all workers see.
        options: Beam's options.

    Raises:
        RunnerError: the pipeline failed.
    """
    if not features:
        return Found({}, {})
    with tft_beam.Context(temp_dir=f"{workspace}/temporary"):

        def pipeline(root: beam.Pipeline) -> None:
            batches = (
                root
                | "Read" >> beam.io.ReadFromParquetBatched(samples, columns=read_columns(features))
                | "Select" >> beam.FlatMap(record_batches, features, "train")
            )
            transform_fn = (batches, adapter_config(features)) | "Analyze" >> tft_beam.AnalyzeDataset(
                _measure(features)
            )
            transform_fn | "Write" >> tft_beam.WriteTransformFn(f"{workspace}/found")

        run(pipeline, options)
    return _read(tft.TFTransformOutput(f"{workspace}/found"), features)


def _measure(features: Mapping[str, Feature]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A preprocessing function whose outputs are the figures themselves, once a row."""

    def measure(raw: Mapping[str, Any]) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for name, feature in features.items():
            if not isinstance(feature, NumericFeature):
                tft.vocabulary(
                    present_texts(raw[name]),
                    vocab_filename=_file(features, name),
                    store_frequency=True,
                    file_format="tfrecord_gzip",
                )
            elif feature.transform == "buckets":
                figures[name] = tf.cast(bucket_boundaries(raw[name], feature.buckets), tf.float64)
            else:
                figures[name] = tf.stack(moments(raw[name], log1p=feature.transform == "log1p"))
        rows = tf.shape(next(iter(raw.values())), tf.int64)[0]
        # The function must have an output, also where all features are ids; and the output may not be float64.
        outputs = figures or {"nothing": tf.zeros(1, tf.float64)}
        return {name: tf.tile(tf.bitcast(figure, tf.int64)[None], [rows, 1]) for name, figure in outputs.items()}

    return measure


def _read(found: tft.TFTransformOutput, features: Mapping[str, Feature]) -> Found:
    numbers = found.transform_raw_features({name: _one_row(feature) for name, feature in features.items()})
    counts = {
        name: _counts(found.vocabulary_by_name(_file(features, name)))
        for name, feature in features.items()
        if not isinstance(feature, NumericFeature)
    }
    return Found(
        counts, {name: figure.numpy()[0].view(np.float64) for name, figure in numbers.items() if name in features}
    )


def _file(features: Mapping[str, Feature], name: str) -> str:
    """A file's name for any name of a feature."""
    return f"ids_{list(features).index(name)}"


def _counts(lines: list[bytes]) -> dict[str, int]:
    pairs = (line.decode().split(" ", 1) for line in lines)
    counts = {text: int(count) for count, text in pairs}
    return {} if counts == _NOTHING else counts


def _one_row(feature: Feature) -> Any:
    if isinstance(feature, NumericFeature):
        return tf.zeros(1)
    return tf.sparse.from_dense([[""]]) if isinstance(feature, ListFeature) else tf.constant([""])
