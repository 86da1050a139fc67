"""AITM: adaptive information transfer between the steps of a funnel.

Xi et al., "Modeling the Sequential Dependence among Audience Multi-step Conversions with Multi-task Learning in
Targeted Display Advertising", KDD 2021. Tasks stand in a chain. Each tower's output is mixed with what the task before
it hands on, by an attention that all steps share (the AIT module); the calibrator keeps a step from being more probable
than the one before it. Where we differ from the authors' code: the activation, dropout and normalisation of what is
handed on are the model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from onehull.model.aitm_attention import AitmAttention
from onehull.model.bricks import Bricks, Graph
from onehull.model.calibrator import MonotoneCalibrator


def aitm(bricks: Bricks, *, order: Sequence[str] = (), calibrator: float = 0.6) -> Graph:
    """Builds the graph up to the last hidden layer of each task, and the calibrator behind the heads.

    The calibrator compares binary tasks that live on the same rows: P(buy | click) may well exceed P(click).

    Args:
        bricks: inputs and layers.
        order: the tasks from the first step to the last; one that the model does not have is passed over. Default: the
            order of the tasks.
        calibrator: weight of its penalty; 0 leaves it out.

    Raises:
        ValueError: the order lacks a task, or the towers end in different widths.
    """
    steps = [task for task in order if task in bricks.towers] if order else list(bricks.tasks)
    if sorted(steps) != sorted(bricks.tasks):
        raise ValueError(f"model.order must name every task once. Received {list(order)}. Tasks: {list(bricks.tasks)}.")
    _check_widths(bricks.towers)
    embedded = bricks.embed()
    hidden = {steps[0]: bricks.tower(steps[0], embedded)}
    attention = AitmAttention(bricks.seed, name=bricks.names.free("attention"))
    for before, task in pairwise(steps):
        own = bricks.tower(task, embedded)
        handed_on = bricks.dense(f"transfer_{task}", own.shape[-1], hidden[before])
        hidden[task] = attention([handed_on, own])
    chains = _chains(bricks, steps) if calibrator else []
    layers = [MonotoneCalibrator(chain, calibrator, name=bricks.names.free("calibrator")) for chain in chains]

    def relate(predictions: dict[str, Any]) -> dict[str, Any]:
        for layer in layers:
            predictions = {**predictions, **layer({task: predictions[task] for task in layer.order})}
        return predictions

    return Graph(hidden, relate)


def _check_widths(towers: Mapping[str, Sequence[int]]) -> None:
    ends = {task: widths[-1] if widths else None for task, widths in towers.items()}
    if len(set(ends.values())) > 1:
        rule = "the towers of all tasks must end in the same width, because one attention mixes them"
        raise ValueError(f"model.tower: {rule}. Received {ends}. Change model.tower or tasks.NAME.tower.")


def _chains(bricks: Bricks, steps: Sequence[str]) -> list[list[str]]:
    """The binary tasks of each space, in the order of the steps, where there are two or more."""
    chains: dict[str | None, list[str]] = {}
    for task in steps:
        if task in bricks.binary:
            chains.setdefault(bricks.spaces.get(task), []).append(task)
    return [chain for chain in chains.values() if len(chain) > 1]
