"""Task statistics → task weights.

A balancer is a pure pair of functions, ``init(num_tasks) → state`` and ``update(stats, state) → (weights, state)``.
Nothing here knows a model. The cheapest kind needs no more than the losses of the tasks, and which of them have labels
in this batch::

    balancer = Uw(learning_rate=0.01)
    state = balancer.init(num_tasks=2)
    weights, state = balancer.update(Stats(losses, active, None, step), state)

A method with ``needs = "gram"`` also needs the inner products of the task gradients. Almost every method on gradients
is a weighting of them that can be had from these T × T numbers, however large the model is::

    balancer = PCGrad(seed=0)
    weights, state = balancer.update(Stats(losses, active, gram, step), balancer.init(num_tasks=2))

What methods have in common is not in the methods: a wrapper is a balancer around a balancer::

    balancer = Smooth(Every(PCGrad(), steps=4), decay=0.9)

The same in the form that documents hold, and back::

    balancer = get_balancer({"kind": "every", "steps": 4, "inner": {"kind": "pcgrad"}})
    balancer_config(balancer)

One file a method; `BALANCERS` is the list of methods, `WRAPPERS` that of wrappers.
"""

from onehull.balance.aligned_mtl import AlignedMtl
from onehull.balance.build import BALANCERS, WRAPPERS, balancer_config, build_balancer, get_balancer, task_weights
from onehull.balance.by_group import ByGroup
from onehull.balance.cagrad import CaGrad
from onehull.balance.clip import Clip
from onehull.balance.config import ConFig
from onehull.balance.db_mtl import DbMtl
from onehull.balance.dualproj import DualProj
from onehull.balance.dwa import Dwa
from onehull.balance.every import Every
from onehull.balance.fairgrad import FairGrad
from onehull.balance.fallback import Fallback
from onehull.balance.famo import Famo
from onehull.balance.gls import Gls
from onehull.balance.gradcraft import GradCraft
from onehull.balance.gradnorm import GradNorm
from onehull.balance.gradvac import GradVac
from onehull.balance.imtl_g import ImtlG
from onehull.balance.imtl_l import ImtlL
from onehull.balance.match_norm import MatchNorm
from onehull.balance.metabalance import MetaBalance
from onehull.balance.mgda import Mgda
from onehull.balance.nash_mtl import NashMtl
from onehull.balance.pcgrad import PCGrad
from onehull.balance.rlw import Rlw
from onehull.balance.scale import Scale
from onehull.balance.smooth import Smooth
from onehull.balance.static import Static
from onehull.balance.stch import Stch
from onehull.balance.types import Balancer, Heads, Needs, State, Stats
from onehull.balance.upgrad import UpGrad
from onehull.balance.uw import Uw
from onehull.balance.wrapper import Wrapper

__all__ = [
    "BALANCERS",
    "WRAPPERS",
    "AlignedMtl",
    "Balancer",
    "ByGroup",
    "CaGrad",
    "Clip",
    "ConFig",
    "DbMtl",
    "DualProj",
    "Dwa",
    "Every",
    "FairGrad",
    "Fallback",
    "Famo",
    "Gls",
    "GradCraft",
    "GradNorm",
    "GradVac",
    "Heads",
    "ImtlG",
    "ImtlL",
    "MatchNorm",
    "MetaBalance",
    "Mgda",
    "NashMtl",
    "Needs",
    "PCGrad",
    "Rlw",
    "Scale",
    "Smooth",
    "State",
    "Static",
    "Stats",
    "Stch",
    "UpGrad",
    "Uw",
    "Wrapper",
    "balancer_config",
    "build_balancer",
    "get_balancer",
    "task_weights",
]
