"""Models: functional Keras models with one named output a task.

`MultiTaskModel` is `keras.Model` with missing labels and ``compile(balancer=...)``. `build_model` makes one from the
spec out of the same layers that are public here. One file an architecture; `ARCHITECTURES` is the list.
"""

from onehull.model.aitm_attention import AitmAttention
from onehull.model.build import ARCHITECTURES, build_model, compile_model
from onehull.model.calibrator import MonotoneCalibrator
from onehull.model.costs import ParameterCosts, parameter_costs
from onehull.model.cross_stitch_unit import CrossStitchUnit
from onehull.model.dense_block import DenseBlock
from onehull.model.embedding_table import EmbeddingTable
from onehull.model.embeddings import FeatureEmbeddings
from onehull.model.entire_space import EntireSpaceLoss
from onehull.model.epnet import EpNet
from onehull.model.experts import Experts
from onehull.model.feature_gate import FeatureGate
from onehull.model.gate import Gate
from onehull.model.gate_nu import GateNU
from onehull.model.heads import BinaryHead, MulticlassHead, RegressionHead
from onehull.model.imputation import WithImputation
from onehull.model.late_labels import LateCrossentropy
from onehull.model.losses import Log1pLoss
from onehull.model.mixture import Mixture
from onehull.model.multi_task_model import MultiTaskModel
from onehull.model.own_experts import OwnExperts
from onehull.model.ppnet import PpNet
from onehull.model.self_gate import SelfGate
from onehull.model.tower import Tower
from onehull.model.usage import ExpertUsage, expert_usage

__all__ = [
    "ARCHITECTURES",
    "AitmAttention",
    "BinaryHead",
    "CrossStitchUnit",
    "DenseBlock",
    "EmbeddingTable",
    "EntireSpaceLoss",
    "EpNet",
    "ExpertUsage",
    "Experts",
    "FeatureEmbeddings",
    "FeatureGate",
    "Gate",
    "GateNU",
    "LateCrossentropy",
    "Log1pLoss",
    "Mixture",
    "MonotoneCalibrator",
    "MultiTaskModel",
    "MulticlassHead",
    "OwnExperts",
    "ParameterCosts",
    "PpNet",
    "RegressionHead",
    "SelfGate",
    "Tower",
    "WithImputation",
    "build_model",
    "compile_model",
    "expert_usage",
    "parameter_costs",
]
