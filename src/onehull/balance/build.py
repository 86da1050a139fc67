"""Turns the spec's section, or a name, into a balancer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onehull.balance.dwa import Dwa
from onehull.balance.pcgrad import PCGrad
from onehull.balance.static import Static
from onehull.balance.types import Balancer
from onehull.errors import suggest
from onehull.spec.balance import Balance

BALANCERS: dict[str, Callable[..., Balancer]] = {
    "dwa": Dwa,
    "pcgrad": PCGrad,
    "static": Static,
}
"""Every method by its name in a spec. A method's arguments are its fields in the spec."""

# The section's own keys: they say how losses are made, before any method sees them.
_COMMON = {"kind", "weights", "normalizer"}


def build_balancer(section: Balance, tasks: Sequence[str]) -> Balancer:
    """The balancer of a spec.

    The static weights of the section multiply the losses for every method (`loss_weights` in Keras' terms, see
    `task_weights`), so they are no argument of the method.
    """
    balancer = BALANCERS[section.kind](**section.model_dump(exclude=_COMMON))
    balancer.init(len(tasks))  # a method that cannot work with so many tasks says so now
    return balancer


def task_weights(section: Balance, tasks: Sequence[str]) -> dict[str, float]:
    """The static weight of every task."""
    return {task: section.weights.get(task, 1.0) for task in tasks}


def get_balancer(identifier: Any) -> Balancer | None:
    """A balancer from what a user writes: an object, a name, ``{"kind": name, …arguments}``, or None.

    Raises:
        ValueError: the name is not known.
    """
    if identifier is None or isinstance(identifier, Balancer):
        return identifier
    arguments = dict(identifier) if isinstance(identifier, dict) else {"kind": identifier}
    kind = arguments.pop("kind", None)
    if kind not in BALANCERS:
        raise ValueError(f"balancer must name a method. Received {kind!r}. {suggest(kind, sorted(BALANCERS))}")
    return BALANCERS[kind](**arguments)


def balancer_config(balancer: Balancer | None) -> dict[str, Any] | None:
    """The form of a balancer that `get_balancer` reads back; None for a method outside the registry."""
    kinds = [kind for kind, method in BALANCERS.items() if method is type(balancer)]
    return {"kind": kinds[0], **vars(balancer)} if kinds else None
