"""Training: epochs of Keras' `fit`, exact validation, early stopping, and checkpoints that a killed run continues from.

`train` goes from shards to ``model.keras``; `fit_model` is its loop for any `MultiTaskModel` and any datasets.
Validation chooses the epoch; the test part is never read here.
"""

from onehull.train.callbacks import FiniteLoss
from onehull.train.history import load_conflicts, load_history
from onehull.train.loop import FitResult, Position, fit_model
from onehull.train.predict import predict
from onehull.train.train import TrainResult, train

__all__ = [
    "FiniteLoss",
    "FitResult",
    "Position",
    "TrainResult",
    "fit_model",
    "load_conflicts",
    "load_history",
    "predict",
    "train",
]
