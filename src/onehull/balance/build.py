"""Turns the spec's section, or a name, into a balancer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
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


def build_balancer(section: Balance, tasks: Sequence[str]) -> Balancer:
    """The balancer of a spec.

    The static weights of the section multiply the losses for every method (`loss_weights` in Keras' terms, see
    `task_weights`), so they are no argument of the method.
    """
    method = BALANCERS[section.kind]
    balancer = method(**_arguments(method, section, tasks))
    balancer.init(len(tasks))  # a method that cannot work with so many tasks says so now
    return balancer


def _arguments(method: Callable[..., Balancer], section: Balance, tasks: Sequence[str]) -> dict[str, Any]:
    """The section's fields that the method takes; what the section leaves open is left to the method."""
    own = set(inspect.signature(method).parameters) & set(type(section).model_fields) - {"weights"}
    found = {name: _in_order(getattr(section, name), tasks) for name in sorted(own)}
    return {name: value for name, value in found.items() if value != ()}


def _in_order(value: Any, tasks: Sequence[str]) -> Any:
    """A mapping by task as a tuple in the order of the tasks, 0 where a task is not named."""
    if isinstance(value, Mapping):
        return tuple(value.get(task, 0.0) for task in tasks) if value else ()
    return value


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
