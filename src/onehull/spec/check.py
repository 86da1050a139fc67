"""Rules that span sections of a spec: references between tasks, labels among inputs, overlapping splits."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from onehull.errors import Fault, suggest
from onehull.spec.balance_rules import balance_faults
from onehull.spec.data import ColumnSplit, Data, FileSplit, RandomSplit, TimeSplit
from onehull.spec.draft import Draft
from onehull.spec.late import Late
from onehull.spec.model_rules import model_faults
from onehull.spec.section import format_duration
from onehull.spec.tasks import BinaryTask, RegressionTask


def cross_faults(draft: Draft) -> list[Fault]:
    """All broken rules that need more than one section to see."""
    return [
        *_data_faults(draft),
        *_split_faults(draft),
        *_task_faults(draft),
        *_leak_faults(draft),
        *_late_faults(draft),
        *balance_faults(draft),
        *model_faults(draft),
    ]


def _data_faults(draft: Draft) -> Iterator[Fault]:
    data = draft.data
    if data is None:
        return
    if (data.events is None) == (data.samples is None):
        value = {"events": data.events is not None, "samples": data.samples is not None}
        yield Fault("data", "must have exactly one of events and samples", value)
    if data.events is not None and isinstance(data.split, FileSplit):
        yield Fault("data.split.by", "must be time, column or random for an event log", data.split.by)
    if data.events is not None and data.holdout is not None:
        yield Fault("data.holdout", "does not go with data.events", data.holdout)
    elif data.holdout is not None and not isinstance(data.split, RandomSplit):
        yield Fault("data.holdout", "goes only with split.by: random", data.holdout)
    for entity, key in (("user", data.user), ("item", data.item)):
        if getattr(data.tables, entity) is not None and key is None:
            remedy = f"Name the column that holds the {entity}'s id."
            yield Fault(f"data.{entity}", f"is required by data.tables.{entity}", None, remedy)


def _split_faults(draft: Draft) -> Iterator[Fault]:
    data = draft.data
    if data is None:
        return
    split = data.split
    if isinstance(split, ColumnSplit):
        yield from _overlap_faults(split)
    elif isinstance(split, FileSplit):
        if _same_path(split.validation, split.test):
            remedy = "What chooses the model must not be what it is reported on."
            yield Fault("data.split.test", "must be another file than data.split.validation", split.test, remedy)
        for part in ("validation", "test"):
            if data.samples is not None and _same_path(getattr(split, part), data.samples):
                yield Fault(f"data.split.{part}", "must be another file than data.samples", getattr(split, part))
    elif isinstance(split, RandomSplit):
        yield from _fraction_faults(split, data)
    elif isinstance(split, TimeSplit) and data.time is None:
        yield Fault("data.time", "is required by split.by: time", None)


def _overlap_faults(split: ColumnSplit) -> Iterator[Fault]:
    parts = {"train": split.train or (), "validation": split.validation, "test": split.test}
    for first, second in (("validation", "test"), ("train", "validation"), ("train", "test")):
        common = sorted(set(map(str, parts[first])) & set(map(str, parts[second])))
        if common:
            remedy = "A row belongs to one part only."
            yield Fault(f"data.split.{second}", f"must not overlap data.split.{first}", common, remedy)


def _fraction_faults(split: RandomSplit, data: Data) -> Iterator[Fault]:
    total = split.validation + split.test
    limit = "at most 1 (of the holdout)" if data.holdout else "below 1, the rest is for training"
    if total > 1 + 1e-9 or (data.holdout is None and total >= 1 - 1e-9):
        yield Fault("data.split", f"must have validation + test {limit}", total)
    if split.group == "user" and data.user is None:
        yield Fault("data.split.group", "must be 'row' where data.user names no column", split.group)


def _task_faults(draft: Draft) -> Iterator[Fault]:
    from_events = draft.data is not None and draft.data.events is not None
    for name, task in draft.tasks.items():
        place = f"tasks.{name}"
        if name in draft.features:
            yield Fault(place, "must not have the name of a feature", name)
        if task is None:
            continue
        if draft.data is not None:
            required, other = ("event", "label") if from_events else ("label", "event")
            if getattr(task, required) is None:
                source = "an event log" if from_events else "a table of samples"
                yield Fault(f"{place}.{required}", f"is required where the data are {source}", None)
            if getattr(task, other) is not None:
                yield Fault(f"{place}.{other}", f"does not go with data.{'events' if from_events else 'samples'}")
            if from_events and task.window is None:
                remedy = "Say how long after the impression this feedback still counts, for example 30m."
                yield Fault(f"{place}.window", "is required for an event log", None, remedy)
        if isinstance(task, RegressionTask) and from_events and task.value is None:
            yield Fault(f"{place}.value", "must name the field of the event that holds the value", None)
        if isinstance(task, RegressionTask) and task.duration is not None and task.duration not in draft.features:
            remedy = suggest(task.duration, list(draft.features))
            yield Fault(f"{place}.duration", "must name a feature", task.duration, remedy)
        elif isinstance(task, RegressionTask) and task.duration is not None and task.head.kind == "d2q":
            feature = draft.features[task.duration]
            if feature is not None and feature.kind != "numeric":
                yield Fault(f"{place}.duration", "must name a numeric feature for the head 'd2q'", task.duration)
        yield from _space_faults(draft, name)


def _late_faults(draft: Draft) -> Iterator[Fault]:
    for name, task in draft.tasks.items():
        if isinstance(task, BinaryTask) and task.late is not None and draft.data is not None:
            yield from _late_task_faults(draft, draft.data, name, task, task.late)


def _late_task_faults(draft: Draft, data: Data, name: str, task: BinaryTask, late: Late) -> Iterator[Fault]:
    place, events = f"tasks.{name}.late", data.events
    if events is None or events.lateness is None:
        remedy = "Say how late events may come, for example 10m."
        yield Fault(place, "is for a streamed log: data.events.lateness must be given", late.kind, remedy)
    if task.window is not None and late.wait >= task.window:
        yield Fault(f"{place}.wait", "must be shorter than the task's window", format_duration(late.wait))
    below = [other for other, one in draft.tasks.items() if one is not None and one.observed_when == name]
    if task.observed_when is not None or below:
        rule = (
            "does not go with observed_when, of this task or of one that names it: a label that may change has no space"
        )
        yield Fault(place, rule, task.observed_when or below[0])


def _space_faults(draft: Draft, name: str) -> Iterator[Fault]:
    task = draft.tasks[name]
    parent = task.observed_when if task is not None else None
    if parent is None:
        return
    place = f"tasks.{name}.observed_when"
    if parent not in draft.tasks:
        yield Fault(place, "must name a task", parent, suggest(parent, list(draft.tasks)))
        return
    if draft.tasks[parent] is not None and not isinstance(draft.tasks[parent], BinaryTask):
        yield Fault(place, "must name a binary task", parent)
    seen = {name}
    while parent is not None and parent in draft.tasks:
        if parent in seen:
            yield Fault(place, "must not lead back to the task itself", parent)
            return
        seen.add(parent)
        task = draft.tasks[parent]
        parent = task.observed_when if task is not None else None


def _leak_faults(draft: Draft) -> Iterator[Fault]:
    labels = {task.label: name for name, task in draft.tasks.items() if task is not None and task.label is not None}
    for name, feature in draft.features.items():
        if feature is None:
            continue
        column = feature.column or name
        if column in labels:
            rule = f"must not read a label: tasks.{labels[column]}.label is this column"
            yield Fault(
                f"features.{name}", rule, column, "Remove the feature: its value is not known before the outcome."
            )
    for name in draft.leakage.allowed if draft.leakage is not None else ():
        if name not in draft.features:
            yield Fault("leakage.allowed", "must name features", name, suggest(name, list(draft.features)))


def _same_path(first: str, second: str) -> bool:
    return posixpath.normpath(first) == posixpath.normpath(second)
