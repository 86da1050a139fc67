"""Models: functional Keras models with one named output a task.

`MultiTaskModel` is `keras.Model` with missing labels and ``compile(balancer=...)``. `build_model` makes one from the
spec out of the same layers that are public here. One file an architecture; `ARCHITECTURES` is the list.
"""

from onehull.model.build import ARCHITECTURES, build_model, compile_model
from onehull.model.costs import ParameterCosts, parameter_costs
from onehull.model.dense_block import DenseBlock
from onehull.model.embeddings import FeatureEmbeddings
from onehull.model.experts import Experts
from onehull.model.gate import Gate
from onehull.model.heads import BinaryHead, MulticlassHead, RegressionHead
from onehull.model.losses import Log1pLoss
from onehull.model.mixture import Mixture
from onehull.model.multi_task_model import MultiTaskModel
from onehull.model.tower import Tower
from onehull.model.usage import ExpertUsage, expert_usage

__all__ = [
    "ARCHITECTURES",
    "BinaryHead",
    "DenseBlock",
    "ExpertUsage",
    "Experts",
    "FeatureEmbeddings",
    "Gate",
    "Log1pLoss",
    "Mixture",
    "MultiTaskModel",
    "MulticlassHead",
    "ParameterCosts",
    "RegressionHead",
    "Tower",
    "build_model",
    "compile_model",
    "expert_usage",
    "parameter_costs",
]
