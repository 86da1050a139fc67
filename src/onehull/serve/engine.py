"""What scores rows: an encoder from raw values to the model's inputs, and the model.

The LiteRT engine encodes with NumPy and never loads TensorFlow. The SavedModel engine hands raw values to the
SavedModel, whose graph encodes them itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onehull.errors import ArtifactError
from onehull.export import Bundle
from onehull.features import ArrayTransform, Transform
from onehull.spec.features import Feature, ListFeature, NumericFeature, VectorFeature
from onehull.spec.samples import feature_column

Array = NDArray[Any]
Scorer = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Inputs by name, ``(K, …)`` each → scores by task, ``(K,)`` or ``(K, classes)``."""


class Encoder(Protocol):
    """Raw values → inputs of the scorer by name, one row a sample."""

    def encode(self, rows: Mapping[str, Sequence[Any]], count: int) -> Mapping[str, Array]:
        """Encodes columns of raw values by feature; a feature that is absent is missing in every row."""

    def encode_frame(self, rows: pl.DataFrame) -> Mapping[str, Array]:
        """Encodes columns ``x.FEATURE`` of a table."""


EncoderOf = Callable[[Sequence[str]], Encoder]
"""Names of features → an encoder of those features alone."""


@dataclass(frozen=True)
class Engine:
    """How raw values become scores.

    Attributes:
        encoder_of: makes the scorer's inputs.
        ids_of: makes ids, for the monitors to see what training never saw; often the same.
        scorer: inputs → scores.
    """

    encoder_of: EncoderOf
    ids_of: EncoderOf
    scorer: Scorer


def open_engine(bundle: Bundle, name: Literal["litert", "savedmodel"]) -> Engine:
    """The engine that a spec names."""
    ids_of = array_encoders(bundle.transform)
    if name == "litert":
        return Engine(ids_of, ids_of, litert_scorer(bundle.litert_path))
    features = bundle.spec.features
    return Engine(lambda names: RawEncoder({n: features[n] for n in names}), ids_of, savedmodel_scorer(bundle.path))


def array_encoders(transform: Transform) -> EncoderOf:
    """Encoders in NumPy, for parts of a transform."""
    return lambda names: ArrayTransform(Transform(features={name: transform.features[name] for name in names}))


def litert_scorer(path: Path) -> Scorer:
    """Scores with a LiteRT model, one request at a time.

    A batch of another size costs nothing to speak of, so batches are not padded to fixed sizes (measured).

    Raises:
        ArtifactError: the file is not a LiteRT model with a signature.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path))
        run = interpreter.get_signature_runner("serving_default")
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"{path} is not a LiteRT model with the signature serving_default: {error}") from error
    wanted = list(run.get_input_details())
    lock = threading.Lock()

    def score(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        with lock:
            scores: Mapping[str, Array] = run(**{name: inputs[name] for name in wanted})
        return scores

    return score


def savedmodel_scorer(directory: Path) -> Scorer:
    """Scores with the SavedModel's signature ``serving_default``; loads TensorFlow.

    Raises:
        ArtifactError: no SavedModel there.
    """
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(directory))
        signature = loaded.signatures["serving_default"]
    except (OSError, KeyError) as error:
        raise ArtifactError(f"{directory} is not a SavedModel with the signature serving_default: {error}") from error
    dtypes = {name: spec.dtype for name, spec in signature.structured_input_signature[1].items()}

    def score(inputs: Mapping[str, Array], _keep: Any = loaded) -> Mapping[str, Array]:
        tensors = {name: tf.constant(inputs[name], dtype) for name, dtype in dtypes.items()}
        return {task: value.numpy() for task, value in signature(**tensors).items()}

    return score


class RawEncoder:
    """Raw values in the form that the SavedModel takes: text (missing ``""``), float32 (missing NaN), padded lists.

    Args:
        features: the spec's features by name.
    """

    def __init__(self, features: Mapping[str, Feature]) -> None:
        self._features = dict(features)

    def encode(self, rows: Mapping[str, Sequence[Any]], count: int) -> Mapping[str, Array]:
        """See `Encoder.encode`."""
        absent = [None] * count
        return {name: _raw(feature, rows.get(name, absent)) for name, feature in self._features.items()}

    def encode_frame(self, rows: pl.DataFrame) -> Mapping[str, Array]:
        """See `Encoder.encode_frame`."""
        columns = {name: feature_column(name) for name in self._features}
        present = {name: rows[column].to_list() for name, column in columns.items() if column in rows.columns}
        return self.encode(present, len(rows))


def _raw(feature: Feature, values: Sequence[Any]) -> Array:
    if isinstance(feature, NumericFeature):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float32)
    if isinstance(feature, VectorFeature):
        absent = [np.nan] * feature.size
        rows = [absent if value is None else list(value) for value in values]
        return np.array(rows, dtype=np.float32).reshape(len(values), feature.size)
    if isinstance(feature, ListFeature):
        # One width for every row of every request, so that rows of users, items and contexts fit together.
        table = np.full((len(values), feature.max_length), "", dtype=object)
        for number, value in enumerate(values):
            items = [item or "" for item in (value or ())][: feature.max_length]
            table[number, : len(items)] = items
        return table
    return np.array([value or "" for value in values], dtype=object)
