"""Heads for durations and other quantities that are not negative: each predicts the expected label, ``(B, 1)``.

One file a method: the head, the loss on what the head attaches to its prediction, and a function that makes the head
from the distribution of the training labels. `HEADS` is the list.
"""

from onehull.model.duration.build import HEADS, duration_head, duration_loss
from onehull.model.duration.cread import CreadHead, CreadLoss
from onehull.model.duration.d2q import D2qHead, D2qLoss
from onehull.model.duration.log1p import Log1pHead, SmearedLoss
from onehull.model.duration.quantile import PinballLoss, QuantileHead
from onehull.model.duration.wlr import WlrHead, WlrLoss

__all__ = [
    "HEADS",
    "CreadHead",
    "CreadLoss",
    "D2qHead",
    "D2qLoss",
    "Log1pHead",
    "PinballLoss",
    "QuantileHead",
    "SmearedLoss",
    "WlrHead",
    "WlrLoss",
    "duration_head",
    "duration_loss",
]
