"""All metrics of one task, by its kind."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from onehull.errors import DataError
from onehull.metrics.auc import auc
from onehull.metrics.calibration import ece, pcoc
from onehull.metrics.classification import accuracy, log_loss, normalized_entropy
from onehull.metrics.gauc import gauc
from onehull.metrics.masking import Floats, labelled
from onehull.metrics.multiclass import multiclass_accuracy, multiclass_auc, multiclass_log_loss
from onehull.metrics.regression import mae, rmse
from onehull.metrics.xauc import xauc

Metrics = dict[str, float | int | None]
Kind = Literal["binary", "regression", "multiclass"]


def task_metrics(kind: Kind, labels: ArrayLike, predictions: ArrayLike, users: ArrayLike | None = None) -> Metrics:
    """Counts and metrics of a task on the rows where its label exists; None is undefined.

    Args:
        kind: binary, regression or multiclass.
        labels: ``(B,)``, NaN is missing.
        predictions: ``(B,)``, or ``(B, classes)``.
        users: ``(B,)``; GAUC of a binary task needs them.

    Returns:
        ``rows``, ``labelled``, ``missing`` always. Binary: ``positives``, ``mean_label``, ``mean_prediction``,
        ``auc``, ``gauc`` and ``gauc_users``, ``log_loss``, ``normalized_entropy``, ``accuracy``, ``pcoc``, ``ece``.
        Regression: ``mean_label``, ``mean_prediction``, ``rmse``, ``mae``, ``xauc``, ``pcoc``. Multiclass:
        ``log_loss``, ``accuracy``, ``macro_auc``.
    """
    rows = labelled(labels, predictions, rank=2 if kind == "multiclass" else 1)
    present = len(rows.labels)
    counts: Metrics = {"rows": len(rows.present), "labelled": present, "missing": len(rows.present) - present}
    match kind:
        case "binary":
            return counts | _means(rows.labels, rows.predictions) | _binary(labels, predictions, users)
        case "regression":
            return counts | _means(rows.labels, rows.predictions) | _regression(labels, predictions)
        case "multiclass":
            return counts | _multiclass(labels, predictions)
        case _:
            raise DataError(f"kind must be binary, regression or multiclass. Received {kind!r}.")


def _means(labels: Floats, predictions: Floats) -> Metrics:
    if not len(labels):
        return {"mean_label": None, "mean_prediction": None}
    return {"mean_label": float(np.mean(labels)), "mean_prediction": float(np.mean(predictions))}


def _binary(labels: ArrayLike, predictions: ArrayLike, users: ArrayLike | None) -> Metrics:
    metrics: Metrics = {
        "positives": int(np.nansum(np.asarray(labels, np.float64))),
        "auc": auc(labels, predictions),
        "log_loss": log_loss(labels, predictions),
        "normalized_entropy": normalized_entropy(labels, predictions),
        "accuracy": accuracy(labels, predictions),
        "pcoc": pcoc(labels, predictions),
        "ece": ece(labels, predictions),
    }
    if users is not None:
        grouped = gauc(labels, predictions, users)
        metrics |= {"gauc": grouped.value, "gauc_users": grouped.users_counted}
    return metrics


def _regression(labels: ArrayLike, predictions: ArrayLike) -> Metrics:
    return {
        "rmse": rmse(labels, predictions),
        "mae": mae(labels, predictions),
        "xauc": xauc(labels, predictions),
        "pcoc": pcoc(labels, predictions),
    }


def _multiclass(labels: ArrayLike, predictions: ArrayLike) -> Metrics:
    return {
        "log_loss": multiclass_log_loss(labels, predictions),
        "accuracy": multiclass_accuracy(labels, predictions),
        "macro_auc": multiclass_auc(labels, predictions),
    }
