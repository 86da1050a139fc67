"""Training: epochs of Keras' `fit`, exact validation, early stopping, and checkpoints that a killed run continues from.

`train` goes from shards to ``model.keras``; `fit_model` is its loop for any `MultiTaskModel` and any datasets.
Validation chooses the epoch; the test part is never read here. `Start` begins with a trained model, whose vocabularies
may have grown since.
"""

from onehull.train.callbacks import FiniteLoss
from onehull.train.history import load_conflicts, load_history
from onehull.train.loop import FitResult, Position, fit_model
from onehull.train.predict import predict
from onehull.train.train import TrainResult, train
from onehull.train.warm_start import Start, grow_model, warm_start

__all__ = [
    "FiniteLoss",
    "FitResult",
    "Position",
    "Start",
    "TrainResult",
    "fit_model",
    "grow_model",
    "load_conflicts",
    "load_history",
    "predict",
    "train",
    "warm_start",
]
