"""The scoring functions that are exported: encoded inputs, raw features or serialised examples → scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from tempfile import TemporaryDirectory
from typing import Any

import keras
import tensorflow as tf

from onehull.features.graph import parse_examples, raw_signature, transform_model
from onehull.features.transform import Transform
from onehull.fusion import Formula, tensorflow_ops
from onehull.spec.inputs import ModelInput

Scores = dict[str, Any]
FUSED = "fused"
"""Name of the output that holds the formula's value."""


def encoded_signature(inputs: tuple[ModelInput, ...]) -> dict[str, tf.TensorSpec]:
    """Shape and dtype of every encoded input, with a free batch."""
    return {i.name: tf.TensorSpec((None, *i.shape), i.dtype, name=i.name) for i in inputs}


def encoded_scorer(model: keras.Model) -> Callable[[Mapping[str, Any]], Scores]:
    """Encoded inputs → one score a task: ``(B,)``, or ``(B, classes)`` for a multi-class task."""

    def score(inputs: Mapping[str, Any]) -> Scores:
        outputs = model(inputs, training=False)
        return {task: tf.squeeze(value, -1) if value.shape[-1] == 1 else value for task, value in outputs.items()}

    return score


class RawScorer:
    """Raw features, or serialised ``tf.Example``, → scores and the fused score."""

    def __init__(self, model: keras.Model, transform: Transform, formula: Formula) -> None:
        self.transform = transform_model(transform)
        self.model = model
        self._score = encoded_scorer(model)
        self._signature = raw_signature(transform)
        self._parse = parse_examples(transform)
        self._formula = formula

    def raw(self, inputs: Mapping[str, Any]) -> Scores:
        """Scores of raw named tensors."""
        scores = self._score(self.transform(inputs))
        return {**scores, FUSED: self._formula(scores, xp=tensorflow_ops())}

    def examples(self, examples: Any) -> Scores:
        """Scores of serialised ``tf.Example`` ``(B,)``; a feature that an example lacks is missing."""
        return self.raw(self._parse(examples))

    def save(self, directory: str) -> None:
        """Writes a SavedModel with the signatures ``serving_default`` (named tensors) and ``serve_examples``."""
        archive = keras.export.ExportArchive()
        archive.track(self.model)
        archive.track(self.transform)
        archive.add_endpoint("serving_default", self.raw, input_signature=[self._signature])
        spec = tf.TensorSpec((None,), tf.string, name="examples")
        archive.add_endpoint("serve_examples", self.examples, input_signature=[spec])
        archive.write_out(directory, verbose=False)


def litert_model(model: keras.Model, inputs: tuple[ModelInput, ...]) -> bytes:
    """The model as a LiteRT flat buffer with one signature, ``serving_default``: encoded inputs → scores."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", encoded_scorer(model), input_signature=[encoded_signature(inputs)])
    # By way of a SavedModel, whose variables the converter freezes; those of a bare function it leaves as variables.
    with TemporaryDirectory() as directory:
        archive.write_out(directory, verbose=False)
        content: bytes = tf.lite.TFLiteConverter.from_saved_model(
            directory, signature_keys=["serving_default"]
        ).convert()
    return content
