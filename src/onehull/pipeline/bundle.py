"""The export step: everything that the bundle needs, gathered from the artifacts of a project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from onehull.events import feature_sources, load_entities
from onehull.export import Bundle
from onehull.features import IdCounts, Transform, feature_statistics
from onehull.fusion import Formula, default_formula, parse_formula
from onehull.pipeline.evaluation import PREDICTIONS, samples_of, simulated
from onehull.pipeline.project import Project
from onehull.pipeline.yesterday import Yesterday
from onehull.spec import Spec
from onehull.spec.bundle import ID_COLUMN, POPULARITY_COLUMN, Statistics, TaskStatistics
from onehull.spec.samples import ITEM, SPLIT, label_column

_PARITY_ROWS = 1000


def export_project(project: Project, yesterday: Yesterday | None = None) -> Bundle:
    """Exports the trained model of a project as the next version of its bundle.

    Args:
        project: whose model is trained and evaluated.
        yesterday: what it was trained from; the bundle is then the next version of that one, and statistics go on from
            there.
    """
    import keras

    import onehull.model  # noqa: F401  registers the layers that the file names
    from onehull.export.write import Contents, export_bundle
    from onehull.train.history import SLOTS

    spec = project.spec
    transform = Transform.load(project.transform)
    statistics, items = _statistics(project, transform), _items(project)
    if yesterday is not None:
        statistics, items = yesterday.statistics(statistics), yesterday.items(items, statistics)
    slots = project.training / SLOTS
    contents = Contents(
        spec=spec,
        transform=transform,
        formula=formula_of(spec),
        statistics=statistics,
        metrics=json.loads((project.evaluation / "report.json").read_text(encoding="utf-8")),
        sources=feature_sources(spec, project.data),
        users=load_entities(spec, project.data, "user", samples=project.samples),
        items=items,
        simulated=simulated(project) is not None,
        counts=IdCounts.load(project.counts),
        slots=slots if slots.is_file() else None,
    )
    model = keras.models.load_model(project.training / "model.keras", compile=False)
    rows = samples_of(project, "validation").head(_PARITY_ROWS)
    return export_bundle(model, contents, rows, project.bundle if yesterday is None else yesterday.directory)


def formula_of(spec: Spec) -> Formula:
    """The formula of a spec, or the sum of its binary tasks."""
    kinds = {name: task.kind for name, task in spec.tasks.items()}
    return default_formula(kinds) if spec.fusion.formula is None else parse_formula(spec.fusion.formula, kinds)


def _items(project: Project) -> pl.DataFrame | None:
    """The catalogue with each item's share of the training impressions."""
    items = load_entities(project.spec, project.data, "item", samples=project.samples)
    if items is None:
        return None
    train = pl.scan_parquet(project.samples).filter(pl.col(SPLIT) == "train")
    counts = train.group_by(pl.col(ITEM).alias(ID_COLUMN)).agg(pl.len().alias(POPULARITY_COLUMN)).collect()
    total = max(1, counts[POPULARITY_COLUMN].sum())
    joined = items.join(counts, on=ID_COLUMN, how="left", maintain_order="left")
    return joined.with_columns(pl.col(POPULARITY_COLUMN).fill_null(0) / total)


def _statistics(project: Project, transform: Transform) -> Statistics:
    samples = pl.scan_parquet(project.samples)
    rows = samples.group_by(SPLIT).len().collect()
    predictions = np.load(project.evaluation / PREDICTIONS)
    return Statistics(
        rows=dict(zip(rows[SPLIT].to_list(), rows["len"].to_list(), strict=True)),
        features=feature_statistics(transform, samples),
        tasks={task: _task_statistics(samples, task, predictions) for task in project.spec.tasks},
    )


def _task_statistics(samples: pl.LazyFrame, task: str, predictions: Mapping[str, Any]) -> TaskStatistics:
    labels = samples.filter(pl.col(SPLIT) == "train").select(pl.col(label_column(task))).collect().to_series()
    values = predictions[task]
    return TaskStatistics(
        labels=len(labels) - labels.null_count(),
        mean_label=labels.mean() if labels.null_count() < len(labels) else None,  # type: ignore[arg-type]
        mean_prediction=float(values.mean()) if values.ndim == 1 else None,
    )
