"""Rules of the balancing section that need to see the tasks, or several of its fields."""

from __future__ import annotations

import re
from collections.abc import Iterator

from onehull.errors import Fault, suggest
from onehull.spec.balance import (
    Balance,
    GradnormBalance,
    MetabalanceBalance,
    MgdaBalance,
    UwBalance,
)
from onehull.spec.draft import Draft


def balance_faults(draft: Draft) -> Iterator[Fault]:
    """All broken rules of the balancing section."""
    section, known = draft.balance, list(draft.tasks)
    if section is None:
        return
    yield from _name_faults(section, known)
    yield from _number_faults(section, known)
    yield from _group_faults(section)


def _name_faults(section: Balance, known: list[str]) -> Iterator[Fault]:
    """What is keyed by task must name tasks."""
    for field in ("weights", "lower_bounds", "initial_losses"):
        for task in getattr(section, field, {}):
            if task not in known:
                yield Fault(f"balance.{field}.{task}", "must name a task", task, suggest(task, known))
    target = getattr(section, "target", None)
    if target is not None and target not in known:
        yield Fault("balance.target", "must name a task", target, suggest(target, known))


def _number_faults(section: Balance, known: list[str]) -> Iterator[Fault]:
    if known and not any(section.weights.get(task, 1.0) for task in known):
        yield Fault("balance.weights", "must leave at least one task a weight above 0", section.weights)
    if isinstance(section, MgdaBalance) and sum(section.lower_bounds.values()) >= 1:
        remedy = "The weights sum to 1, and something must be left to find."
        yield Fault("balance.lower_bounds", "must sum to less than 1", section.lower_bounds, remedy)
    if isinstance(section, GradnormBalance) and section.initial_losses:
        absent = [task for task in known if task not in section.initial_losses]
        if absent:
            remedy = "Without any, all are measured."
            yield Fault("balance.initial_losses", f"must name every task, also {absent[0]!r}",
                        list(section.initial_losses), remedy)  # fmt: skip
    if isinstance(section, UwBalance) and abs(section.start) > section.cap:
        rule = f"must be between -cap and cap, which is {section.cap:g}"
        yield Fault("balance.start", rule, section.start)


def _group_faults(section: Balance) -> Iterator[Fault]:
    groups = getattr(section, "groups", ())
    if groups and isinstance(section, MetabalanceBalance):
        remedy = "This method weighs each variable apart already."
        yield Fault("balance.groups", "does not go with balance.kind: metabalance", list(groups), remedy)
    elif groups and getattr(section, "level", None) != "parameters":
        remedy = "Set balance.level: parameters. At the representation there are no variables."
        yield Fault("balance.groups", "needs the gradients of the parameters", list(groups), remedy)
    for number, pattern in enumerate(groups):
        try:
            re.compile(pattern)
        except re.error as error:
            yield Fault(f"balance.groups.{number}", f"must be a regular expression: {error}", pattern)
