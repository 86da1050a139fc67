"""Rules of the model section that need the tasks and features to see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onehull.errors import Fault, suggest
from onehull.spec.draft import Draft
from onehull.spec.model import Aitm, Home
from onehull.spec.tasks import BinaryTask


def model_faults(draft: Draft) -> Iterator[Fault]:
    """Gates on features that are not there, chains and groups of tasks that are not there, a space that no task has."""
    model = draft.model
    if model is None:
        return
    for part, gate in (("epnet", model.epnet), ("ppnet", model.ppnet)):
        for feature in gate.features if gate is not None else ():
            if feature not in draft.features:
                remedy = suggest(feature, list(draft.features))
                yield Fault(f"model.{part}.features", "must name features", feature, remedy)
    if model.entire_space != "none" and not any(_may_have_a_space(draft, name) for name in draft.tasks):
        rule = "needs a binary task whose observed_when is a binary task"
        remedy = "Give observed_when to the task that has labels only where another one is 1."
        yield Fault("model.entire_space", rule, model.entire_space, remedy)
    if isinstance(model, Aitm):
        yield from _chain_faults(draft, model)
    elif isinstance(model, Home):
        yield from _named_once(draft, "model.groups", [task for tasks in model.groups.values() for task in tasks])


def _may_have_a_space(draft: Draft, name: str) -> bool:
    """Whether a task is binary and observed where a binary one is 1; a task with a fault of its own may be either."""
    task = draft.tasks[name]
    if task is None:
        return True
    parent = task.observed_when
    if not isinstance(task, BinaryTask) or parent is None or parent not in draft.tasks:
        return False
    return draft.tasks[parent] is None or isinstance(draft.tasks[parent], BinaryTask)


def _chain_faults(draft: Draft, model: Aitm) -> Iterator[Fault]:
    yield from _named_once(draft, "model.order", model.order)
    absent = [task for task in draft.tasks if task not in model.order]
    if model.order and absent:
        yield Fault("model.order", "must name every task", list(model.order), f"Add {', '.join(map(repr, absent))}.")
    towers = {name: model.tower if task.tower is None else task.tower for name, task in draft.tasks.items() if task}
    ends = {name: widths[-1] if widths else None for name, widths in towers.items()}
    if len(set(ends.values())) > 1:
        remedy = "One attention mixes what the towers give. Change model.tower or tasks.NAME.tower."
        yield Fault("model.tower", "must end in the same width for all tasks of an aitm", ends, remedy)


def _named_once(draft: Draft, place: str, names: Sequence[str]) -> Iterator[Fault]:
    for name in dict.fromkeys(names):
        if name not in draft.tasks:
            yield Fault(place, "must name tasks", name, suggest(name, list(draft.tasks)))
        elif list(names).count(name) > 1:
            yield Fault(place, "must name a task at most once", name)
