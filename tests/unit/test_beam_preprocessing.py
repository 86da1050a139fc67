"""The spec as a preprocessing function of TensorFlow Transform encodes what the local engine encodes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("tensorflow_transform", reason='tensorflow-transform is not installed: pip install "onehull[beam]"')

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam

from onehull.beam.preprocessing import preprocessing_fn_of, raw_feature_spec
from onehull.beam.runner import pipeline_options, run
from onehull.features import ArrayTransform, analyze
from onehull.spec import Spec, load_spec

FEATURES: dict[str, dict[str, Any]] = {
    "place": {"kind": "categorical"},
    "ties": {"kind": "categorical", "min_count": 1, "max_size": 3},
    "hashed": {"kind": "categorical", "encoding": "hash", "buckets": 10},
    "tags": {"kind": "list", "max_length": 2, "min_count": 1},
    "marks": {"kind": "list", "max_length": 3, "encoding": "hash", "buckets": 7},
    "holes": {"kind": "numeric"},
    "whole": {"kind": "numeric"},
    "log": {"kind": "numeric", "transform": "log1p"},
    "bucket": {"kind": "numeric", "transform": "buckets", "buckets": 5},
    "vector": {"kind": "vector", "size": 2},
    "no_id": {"kind": "categorical"},
    "constant": {"kind": "numeric"},
}
TRAIN: list[dict[str, Any]] = [
    {
        "place": [None, "a", "b b", "a\n", "b b"][row % 5],
        "ties": ["z", "a\x00", "ü", "q"][row % 4],
        "hashed": f"h{row}",
        "tags": [["a", "b", "c"], [], ["c"]][row % 3],
        "marks": [["x"], ["y", "x", "q", "z"]][row % 2],
        "holes": None if row % 3 == 0 else 1e6 + row,
        "whole": row * 0.5,
        "log": None if row == 5 else (-3.0) ** (row % 9),
        "bucket": None if row == 7 else max(0.0, row - 30.0),
        "vector": [1.0, float(row)],
        "no_id": None,
        "constant": 0.1,
    }
    for row in range(60)
]
LATER: list[dict[str, Any]] = [
    {"place": "new", "tags": ["new", "a"], "holes": 1e30, "bucket": 1e9, "no_id": "x", "constant": 7.0, "whole": 2.0},
    {"bucket": -1e-40, "log": 1e-42, "whole": -1e-44},
    {"bucket": 1e-40},
    {"place": "a\n", "marks": ["y"], "bucket": 0.0, "vector": [2.0, 3.0], "log": -1e30, "whole": -1.0},
]


def spec() -> Spec:
    document = {
        "name": "tables",
        "data": {"samples": "samples.csv", "split": {"by": "random", "validation": 0.2, "test": 0.2}},
        "features": FEATURES,
        "tasks": {"click": {"kind": "binary", "label": "click"}},
    }
    return load_spec(document)


def as_list(name: str, row: dict[str, Any]) -> list[Any]:
    """The values of a row, none where they are missing."""
    value = row.get(name)
    return value if isinstance(value, list) else [] if value is None else [value]


def filled(name: str, row: dict[str, Any]) -> Any:
    """The same, with empty text or NaN in the place of what is missing."""
    values, missing = as_list(name, row), "" if raw_feature_spec(spec())[name].dtype == tf.string else np.nan
    width = FEATURES[name].get("size", 4 if FEATURES[name]["kind"] == "list" else None)
    return (values or [missing])[0] if width is None else values + [missing] * (width - len(values))


def sparse(name: str, rows: list[dict[str, Any]]) -> tf.SparseTensor:
    """A raw tensor as parsed ``tf.Example`` gives it."""
    lists = [as_list(name, row) for row in rows]
    places = [(row, column) for row, items in enumerate(lists) for column in range(len(items))]
    flat = tf.constant([item for items in lists for item in items], raw_feature_spec(spec())[name].dtype)
    return tf.SparseTensor(np.array(places, np.int64).reshape(-1, 2), flat, (len(rows), max(map(len, lists))))


def dense(name: str, rows: list[dict[str, Any]]) -> tf.Tensor:
    """The same, filled up."""
    return tf.constant([filled(name, row) for row in rows], raw_feature_spec(spec())[name].dtype)


def dense_feature_spec() -> dict[str, Any]:
    shapes = {name: dense(name, TRAIN).shape[1:] for name in FEATURES}
    return {name: tf.io.FixedLenFeature(shapes[name], raw.dtype) for name, raw in raw_feature_spec(spec()).items()}


def analysed(directory: Path, feature_spec: dict[str, Any], row_value: Callable[..., Any]) -> tft.TFTransformOutput:
    """What TensorFlow Transform makes of the training rows."""
    metadata = tft.DatasetMetadata.from_feature_spec(feature_spec)

    def build(pipeline: beam.Pipeline) -> None:
        rows = pipeline | beam.Create([{name: row_value(name, row) for name in FEATURES} for row in TRAIN])
        (_, transform_fn) = (rows, metadata) | tft_beam.AnalyzeAndTransformDataset(preprocessing_fn_of(spec()))
        transform_fn | tft_beam.WriteTransformFn(str(directory / "found"))

    with tft_beam.Context(temp_dir=str(directory / "temporary")):
        run(build, pipeline_options())
    return tft.TFTransformOutput(str(directory / "found"))


@pytest.mark.parametrize("form", [sparse, dense])
def test_encoded_inputs_are_those_of_the_local_engine(form: Callable[..., Any], tmp_path: Path):
    raw, row_value = (raw_feature_spec(spec()), as_list) if form is sparse else (dense_feature_spec(), filled)
    found = analysed(tmp_path, raw, row_value)
    columns = {f"x.{name}": [row[name] for row in TRAIN] for name in FEATURES}
    frame = pl.DataFrame({"split": ["train"] * len(TRAIN), **columns}, schema_overrides={"x.no_id": pl.String})
    transform = analyze(spec().features, frame.lazy())
    rows = TRAIN + LATER
    expected = ArrayTransform(transform).encode({name: [r.get(name) for r in rows] for name in FEATURES}, len(rows))
    encoded = found.transform_raw_features({name: form(name, rows) for name in FEATURES})
    assert set(encoded) == set(FEATURES)
    for entry in transform.inputs:
        actual = encoded[entry.name].numpy()
        if entry.name in {"whole", "constant"}:
            # Training had a value in every row, so the flag is 0 and ours has no such column.
            assert not actual[:, 1].any()
            actual = actual[:, :1]
        assert actual.shape == expected[entry.name].shape
        np.testing.assert_allclose(actual, expected[entry.name], rtol=1e-6, atol=1e-6, err_msg=entry.name)
