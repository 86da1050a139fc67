"""The evaluation step: predictions of the model, and of single-task models when asked, and the report on them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from onehull.evaluate import evaluate, write_report
from onehull.pipeline.cache import build_once, fingerprint
from onehull.pipeline.project import Project
from onehull.spec.samples import SPLIT, SplitName

PREDICTIONS = "predictions.npz"
"""Predictions on validation, in the order of the samples table; the export takes its statistics from them."""
_BATCH_SIZE = 8192

Predictions = dict[str, np.ndarray]


def evaluate_project(project: Project, out: Path, train_key: str) -> None:
    """Writes ``report.json`` and ``report.html`` on the test part, and keeps the predictions on validation.

    Args:
        project: a project whose model is trained.
        out: directory to fill.
        train_key: key of the trained model; single-task models are made for the same data and settings.
    """
    import keras

    import onehull.model  # noqa: F401  registers the layers that the file names
    from onehull.model import parameter_costs
    from onehull.train import load_conflicts, load_history

    model = keras.models.load_model(project.training / "model.keras", compile=False)
    baseline = _single_task_predictions(project, train_key) if project.baseline == "single" else None
    validation, test = (_predict(project, model, split) for split in ("validation", "test"))
    report = evaluate(
        project.spec.tasks,
        samples_of(project, "test"),
        test,
        split="test",
        baseline=baseline,
        history=load_history(project.training),
        costs=asdict(parameter_costs(model)),
        experts=_expert_usage(project, model),
        conflicts=load_conflicts(project.training),
        simulated=simulated(project),
        duration_column=_duration_feature(project),
        train_means=_train_means(project),
        name=project.spec.name,
    )
    write_report(report, out)
    np.savez(out / PREDICTIONS, allow_pickle=False, **validation)


def samples_of(project: Project, split: SplitName) -> pl.DataFrame:
    """Rows of one part of the samples table, in its order."""
    return pl.scan_parquet(project.samples).filter(pl.col(SPLIT) == split).collect()


def simulated(project: Project) -> str | None:
    """What the data directory says about being simulated."""
    report: dict[str, Any] = json.loads((project.samples.parent / "report.json").read_text(encoding="utf-8"))
    return report.get("simulated")


def _duration_feature(project: Project) -> str | None:
    """Feature with the length of what is watched, where a task names it."""
    named = [getattr(task, "duration", None) for task in project.spec.tasks.values()]
    return next((feature for feature in named if feature), None)


def _train_means(project: Project) -> dict[str, float]:
    """Mean training label of each task: what the constant predictor says."""
    from onehull.records import read_manifest

    labels = read_manifest(project.records).labels
    return {task: statistics.mean for task, statistics in labels.items() if statistics.mean is not None}


def _predict(project: Project, model: Any, split: SplitName) -> Predictions:
    from onehull.records import read_records
    from onehull.train import predict

    return predict(model, read_records(project.records, split, batch_size=_BATCH_SIZE))


def _expert_usage(project: Project, model: Any) -> dict[str, Any] | None:
    """How the model uses its experts on the first batch of validation; None where it has none."""
    from onehull.model.usage import expert_usage
    from onehull.records import read_records

    usage = expert_usage(model, read_records(project.records, "validation", batch_size=_BATCH_SIZE).take(1))
    return None if usage is None else usage.to_json()


def _single_task_predictions(project: Project, train_key: str) -> Predictions:
    """Test predictions of one model a task, trained like the shared one; finished models are kept."""
    import keras

    from onehull.train import train

    predictions: Predictions = {}
    for task in project.spec.tasks:
        directory = project.baselines / task

        def build(partial: Path, task: str = task) -> None:
            train(project.spec, project.records, partial, tasks=[task], progress=not project.console.quiet)

        build_once(directory, fingerprint(train_key, task), build)
        model = keras.models.load_model(directory / "model.keras", compile=False)
        predictions[task] = _predict(project, model, "test")[task]
    return predictions
