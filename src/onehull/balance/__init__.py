"""Task statistics → task weights.

A balancer is a pure pair of functions, ``init(num_tasks) → state`` and ``update(stats, state) → (weights, state)``.
``stats`` holds the task losses, which tasks have labels in this batch, and, for a method with ``needs = "gram"``,
the inner products of the task gradients. Nothing here knows a model::

    balancer = PCGrad(seed=0)
    state = balancer.init(num_tasks=2)
    weights, state = balancer.update(Stats(losses, active, gram, step), state)

One file a method; `BALANCERS` is the list.
"""

from onehull.balance.build import BALANCERS, balancer_config, build_balancer, get_balancer, task_weights
from onehull.balance.dwa import Dwa
from onehull.balance.pcgrad import PCGrad
from onehull.balance.static import Static
from onehull.balance.types import Balancer, Needs, State, Stats

__all__ = [
    "BALANCERS",
    "Balancer",
    "Dwa",
    "Needs",
    "PCGrad",
    "State",
    "Static",
    "Stats",
    "balancer_config",
    "build_balancer",
    "get_balancer",
    "task_weights",
]
