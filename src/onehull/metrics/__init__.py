"""One definition of each metric, in NumPy.

Every metric takes labels as floats in which NaN is a missing label, and leaves those rows out; a prediction that is
not finite is a `DataError` with the count. A metric that has no value, such as the AUC of one class, is None.
Tied predictions count half, so that no metric depends on the order of rows.
"""

from onehull.metrics.auc import RankedScores, auc
from onehull.metrics.calibration import CalibrationCurve, calibration_curve, ece, pcoc
from onehull.metrics.classification import accuracy, log_loss, normalized_entropy
from onehull.metrics.delta import relative_gain
from onehull.metrics.gauc import GroupedAuc, gauc
from onehull.metrics.multiclass import multiclass_accuracy, multiclass_auc, multiclass_log_loss
from onehull.metrics.regression import mae, rmse
from onehull.metrics.roc import RocCurve, roc_curve
from onehull.metrics.streaming import StreamingAuc
from onehull.metrics.task import task_metrics
from onehull.metrics.xauc import xauc

__all__ = [
    "CalibrationCurve",
    "GroupedAuc",
    "RankedScores",
    "RocCurve",
    "StreamingAuc",
    "accuracy",
    "auc",
    "calibration_curve",
    "ece",
    "gauc",
    "log_loss",
    "mae",
    "multiclass_accuracy",
    "multiclass_auc",
    "multiclass_log_loss",
    "normalized_entropy",
    "pcoc",
    "relative_gain",
    "rmse",
    "roc_curve",
    "task_metrics",
    "xauc",
]
