"""Turns the spec's section, or what a user writes, into a balancer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onehull.balance.aligned_mtl import AlignedMtl
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
from onehull.balance.types import Balancer
from onehull.balance.upgrad import UpGrad
from onehull.balance.uw import Uw
from onehull.balance.wrapper import Wrapper
from onehull.errors import suggest
from onehull.spec.balance import Balance, StaticBalance

BALANCERS: dict[str, Callable[..., Balancer]] = {
    "aligned_mtl": AlignedMtl,
    "cagrad": CaGrad,
    "config": ConFig,
    "db_mtl": DbMtl,
    "dualproj": DualProj,
    "dwa": Dwa,
    "fairgrad": FairGrad,
    "famo": Famo,
    "gls": Gls,
    "gradcraft": GradCraft,
    "gradnorm": GradNorm,
    "gradvac": GradVac,
    "imtl_g": ImtlG,
    "imtl_l": ImtlL,
    "metabalance": MetaBalance,
    "mgda": Mgda,
    "nash_mtl": NashMtl,
    "pcgrad": PCGrad,
    "rlw": Rlw,
    "static": Static,
    "stch": Stch,
    "upgrad": UpGrad,
    "uw": Uw,
}
"""Every method by its name in a spec. A method's arguments are its fields in the spec."""

WRAPPERS: dict[str, Callable[..., Wrapper]] = {
    "by_group": ByGroup,
    "clip": Clip,
    "every": Every,
    "fallback": Fallback,
    "match_norm": MatchNorm,
    "scale": Scale,
    "smooth": Smooth,
}
"""Every balancer that takes another as ``inner``."""


def build_balancer(section: Balance, tasks: Sequence[str]) -> Balancer:
    """The balancer of a spec.

    Around the method stand, from the inside, those of these wrappers that the section asks for: `Fallback`, `Every`,
    `Smooth`, `Clip`, `Scale`, `MatchNorm`, `ByGroup`. So a fallen-back solution is kept and smoothed like any other,
    what is clipped and scaled is what reaches the losses, and a group has all of this to itself.

    The static weights of the section multiply the losses for every method (`loss_weights` in Keras' terms, see
    `task_weights`), so they are no argument of the method. ``level`` and ``sample`` are the trainer's.

    Raises:
        ValueError: the method cannot work with so many tasks.
    """
    method = BALANCERS[section.kind]
    balancer = _wrapped(method(**_arguments(method, section, tasks)), section)
    balancer.init(len(tasks))  # what does not fit the tasks says so now
    return balancer


def _arguments(method: Callable[..., Balancer], section: Balance, tasks: Sequence[str]) -> dict[str, Any]:
    """The section's fields that the method takes; what the section leaves open is left to the method."""
    own = set(inspect.signature(method).parameters) & set(type(section).model_fields) - {"weights"}
    found = {name: _by_position(getattr(section, name), tasks) for name in sorted(own)}
    if "target" in found:
        found["target"] = _position(found["target"], tasks)
    if isinstance(section, StaticBalance):
        found.update(_static_arguments(section, tasks))
    return {name: value for name, value in found.items() if value != ()}


def _by_position(value: Any, tasks: Sequence[str]) -> Any:
    """A mapping by task as a tuple in the order of the tasks, 0 where a task is not named; empty for an empty one."""
    if isinstance(value, Mapping):
        return tuple(value.get(task, 0.0) for task in tasks) if value else ()
    return value


def _position(target: str | None, tasks: Sequence[str]) -> int:
    """Where a task stands; the first where none is named, and where a task is trained alone."""
    if target is None or len(tasks) == 1:
        return 0
    if target not in tasks:
        raise ValueError(f"balance.target must name a task. Received {target!r}. {suggest(target, list(tasks))}")
    return tasks.index(target)


def _static_arguments(section: StaticBalance, tasks: Sequence[str]) -> dict[str, Any]:
    """The static weight is in the measured loss, so that dividing by that loss would take it out again."""
    if section.reference != "initial":
        return {"reference": "none"}
    return {"weights": tuple(section.weights.get(task, 1.0) for task in tasks)} if section.weights else {}


def _wrapped(balancer: Balancer, section: Balance) -> Balancer:
    """The balancer in the wrappers that a section asks for; the order is explained at `build_balancer`."""
    asked = section.model_dump()
    if asked.get("fallback") is not None:
        balancer = Fallback(balancer, asked["fallback"])
    if asked.get("every", 1) > 1:
        balancer = Every(balancer, asked["every"])
    if asked.get("smooth", 0) > 0:
        balancer = Smooth(balancer, asked["smooth"])
    if asked.get("clip") is not None:
        balancer = Clip(balancer, asked["clip"])
    if asked.get("scale", "none") != "none":
        balancer = Scale(balancer, asked["scale"])
    if asked.get("match_norm"):
        balancer = MatchNorm(balancer)
    return ByGroup(balancer, asked["groups"]) if asked.get("groups") else balancer


def task_weights(section: Balance, tasks: Sequence[str], priors: Mapping[str, float] | None = None) -> dict[str, float]:
    """The static weight of every task.

    Args:
        section: the spec's section.
        tasks: names of the tasks.
        priors: share of positives of each binary task. Where the section asks for ``reference: prior``, the weight of
            such a task is divided by the entropy of this share, in nats: its loss becomes a normalised entropy, 1 for
            a model that knows nothing but the share.

    Raises:
        ValueError: priors are asked for and not given, or a share is not between 0 and 1.
    """
    weights = {task: section.weights.get(task, 1.0) for task in tasks}
    if not isinstance(section, StaticBalance) or section.reference != "prior":
        return weights
    if priors is None:
        raise ValueError("balance.reference 'prior' needs the share of positives of each binary task. Received None.")
    return {task: weight / _entropy(task, priors[task]) if task in priors else weight
            for task, weight in weights.items()}  # fmt: skip


def _entropy(task: str, share: float) -> float:
    """The entropy of a share of positives, in nats."""
    if not 0 < share < 1:
        remedy = "A task with one class only has no entropy: remove the task, or balance.reference."
        raise ValueError(f"balance.reference 'prior' needs positives and negatives of {task!r}. "
                         f"Received a share of {share}. {remedy}")  # fmt: skip
    return -share * math.log(share) - (1 - share) * math.log1p(-share)


def get_balancer(identifier: Any) -> Balancer | None:
    """A balancer from what a user writes: an object, a name, ``{"kind": name, …arguments}``, or None.

    A wrapper's argument ``inner`` is written in the same way:
    ``{"kind": "every", "steps": 4, "inner": {"kind": "pcgrad", "seed": 1}}``.

    Raises:
        ValueError: a name or an argument is not known, or an argument is refused.
    """
    if identifier is None or isinstance(identifier, Balancer):
        return identifier
    arguments = dict(identifier) if isinstance(identifier, Mapping) else {"kind": identifier}
    kind = arguments.pop("kind", None)
    known: dict[str, Callable[..., Balancer]] = {**BALANCERS, **WRAPPERS}
    if kind not in known:
        raise ValueError(f"balancer must name a method. Received {kind!r}. {suggest(kind, sorted(known))}")
    parameters = list(inspect.signature(known[kind]).parameters)
    for name in arguments:
        if name not in parameters:
            raise ValueError(f"balancer {kind!r} has no argument {name!r}. {suggest(name, parameters)}")
    if kind in WRAPPERS:
        arguments["inner"] = get_balancer(arguments.get("inner"))
        if arguments["inner"] is None:
            raise ValueError(f"balancer {kind!r} must have an inner balancer. {suggest('', sorted(known))}")
    # A document knows no tuples.
    return known[kind](**{name: tuple(v) if isinstance(v, list) else v for name, v in arguments.items()})


def balancer_config(balancer: Balancer | None) -> dict[str, Any] | None:
    """The form of a balancer that `get_balancer` reads back; None where a method is outside the registries."""
    kinds = [kind for kind, made in {**BALANCERS, **WRAPPERS}.items() if made is type(balancer)]
    if not kinds:
        return None
    config = {"kind": kinds[0], **vars(balancer)}
    if "inner" in config:
        config["inner"] = balancer_config(config["inner"])
        if config["inner"] is None:
            return None
    return config
