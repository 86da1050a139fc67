"""The bundle's layout and manifest: the one artifact that serving, monitoring and comparison read.

``NAME/VERSION/`` holds a SavedModel that TensorFlow Serving loads as it is (``saved_model.pb``, ``variables/``),
and beside it the files below; what the next training begins with, and serving does not read, stands in ``training/``.
`Manifest.files` lists every file with its SHA-256.
"""

from __future__ import annotations

from onehull.spec.inputs import ModelInput
from onehull.spec.section import Section

MANIFEST = "manifest.json"
MANIFEST_DIGEST = "manifest.sha256"
SPEC = "spec.json"
TRANSFORM = "transform.json"
KERAS_MODEL = "model.keras"
LITERT_MODEL = "model.tflite"
METRICS = "metrics.json"
STATISTICS = "statistics.json"
USER_TABLE = "users.parquet"
ITEM_TABLE = "items.parquet"
COUNTS = "training/counts.parquet"
"""Decayed counts of ids, from which vocabularies grow."""
SLOTS = "training/slots.npz"
"""What optimizers and balancer keep beside the weights of ``model.keras``."""

ID_COLUMN = "id"
"""Key of both entity tables; features stand in columns ``x.NAME``, what the page shows in ``show.NAME``."""
POPULARITY_COLUMN = "popularity"
"""Column of the item table: share of training impressions that showed the item."""


def display_column(name: str) -> str:
    """Column of the item table that the page shows, for a field of `serving.display`."""
    return f"show.{name}"


class FileEntry(Section):
    """One file of a bundle."""

    sha256: str
    size_bytes: int


class Parity(Section):
    """Largest absolute difference between the exported forms, for each task, over the rows compared."""

    rows: int
    savedmodel: dict[str, float]
    litert: dict[str, float]


class Manifest(Section):
    """What is in a bundle."""

    format: int = 1
    name: str
    version: int
    created: str
    """UTC time of the export, ISO 8601."""
    onehull: str
    tensorflow: str
    keras: str
    simulated: bool
    """Trained on simulated data."""
    formula: str
    tasks: dict[str, str]
    """Kind of each task."""
    inputs: tuple[ModelInput, ...]
    """Encoded inputs of the LiteRT model, which a NumPy transform of ``transform.json`` produces."""
    user_features: tuple[str, ...]
    item_features: tuple[str, ...]
    context_features: tuple[str, ...]
    parity: Parity
    files: dict[str, FileEntry]


class FeatureStatistics(Section):
    """What training saw of one feature."""

    missing_share: float
    unseen_share: float = 0.0
    """Share of values outside the vocabulary, measured on validation."""


class TaskStatistics(Section):
    """What training saw of one task, and what the model said on validation."""

    labels: int
    mean_label: float | None
    mean_prediction: float | None = None


class Statistics(Section):
    """Training statistics, for monitoring."""

    rows: dict[str, int]
    features: dict[str, FeatureStatistics]
    tasks: dict[str, TaskStatistics]
