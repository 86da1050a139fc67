"""Do the exported forms agree? Keras, the SavedModel on disk and the LiteRT model on disk score the same real rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import polars as pl
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from onehull.errors import ExportError
from onehull.export.examples import serialize_examples
from onehull.export.scoring import FUSED, encoded_scorer
from onehull.features import ArrayTransform, Transform
from onehull.features.graph import transform_model
from onehull.features.tensors import raw_tensors
from onehull.spec.bundle import Parity

TOLERANCE = 1e-4

Arrays = Mapping[str, Any]


def check_parity(model: keras.Model, transform: Transform, rows: pl.DataFrame, directory: Path, litert: Path) -> Parity:
    """Compares the forms over real rows.

    Args:
        model: the trained model.
        transform: raw values → encoded inputs.
        rows: rows of the samples table, with columns ``x.FEATURE``.
        directory: the SavedModel that was written.
        litert: the LiteRT model that was written.

    Returns:
        The largest absolute difference from Keras, for each task and form.

    Raises:
        ExportError: a difference above 1e-4, with the form, the task and the figure.
    """
    raw = raw_tensors(transform, rows)
    expected = _arrays(encoded_scorer(model)(transform_model(transform)(raw)))
    loaded = tf.saved_model.load(str(directory))
    named = _arrays(loaded.signatures["serving_default"](**raw))
    parsed = _arrays(loaded.signatures["serve_examples"](examples=serialize_examples(transform, rows)))
    encoded = ArrayTransform(transform).encode_frame(rows)
    light = run_litert(litert, encoded)
    savedmodel = {
        task: max(_difference(named, expected, task), _difference(parsed, expected, task)) for task in expected
    }
    parity = Parity(
        rows=len(rows),
        savedmodel=savedmodel,
        litert={task: _difference(light, expected, task) for task in expected},
    )
    _refuse(parity)
    return parity


def run_litert(path: Path, encoded: Arrays) -> dict[str, np.ndarray]:
    """Scores of encoded rows by a LiteRT model on disk."""
    runner = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    scores: dict[str, np.ndarray] = runner(**encoded)
    return scores


def _arrays(scores: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {task: np.asarray(value) for task, value in scores.items() if task != FUSED}


def _difference(actual: Arrays, expected: Arrays, task: str) -> float:
    if task not in actual or actual[task].shape != expected[task].shape:
        return float("inf")
    difference = np.abs(actual[task].astype(np.float64) - expected[task].astype(np.float64))
    return float(np.max(difference, initial=0.0)) if np.all(np.isfinite(difference)) else float("inf")


def _refuse(parity: Parity) -> None:
    for form, differences in (("SavedModel", parity.savedmodel), ("LiteRT model", parity.litert)):
        for task, difference in differences.items():
            if not difference <= TOLERANCE:
                raise ExportError(
                    f"{form}: task {task!r} must agree with Keras within {TOLERANCE} on {parity.rows} real rows. "
                    f"Received a difference of {difference:.3g}. Nothing was exported; "
                    "look for layers that behave differently in inference, or for values beyond float32."
                )
