"""What the tasks of a functional model share, found from its graph.

A node (one call of one layer) is shared when two or more outputs depend on it. The tensors that cross from shared
nodes, or from the inputs, to nodes of a single output are the *frontier*; those of them that come from trainable
variables are the shared representation. Cutting there gives two models with the same layers: the trunk,
inputs → frontier, and the heads, frontier → outputs.

A layer whose class says ``returns_its_inputs`` (the calibrator, which only adds a penalty on several predictions) makes
no task depend on another: each of its outputs is the input of the same place. It belongs to the heads.

A tensor of the frontier may depend on another one (gates of MMoE read what the experts read; the click probability
of ESMM is an output and a factor of another): the heads take all of them as given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Sharing:
    """A model cut at its shared representation.

    Attributes:
        trunk: inputs → list of the tensors of the frontier.
        heads: list of the tensors of the frontier → outputs, in the structure of the model's.
        differentiable: for each tensor of the frontier, whether it depends on trainable variables.
    """

    trunk: keras.Model
    heads: keras.Model
    differentiable: tuple[bool, ...]


def task_layers(outputs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Layers that each output depends on, each layer once.

    Args:
        outputs: symbolic output of each task.
    """
    return {task: _operations(_ancestors(_source(tensor))) for task, tensor in outputs.items()}


def find_sharing(inputs: Any, outputs: Mapping[str, Any], structure: Any) -> Sharing | None:
    """Cuts a functional model between what its tasks share and what belongs to one of them.

    Args:
        inputs: the model's symbolic inputs, in their structure.
        outputs: symbolic output of each task that has a loss.
        structure: the model's symbolic outputs, in their structure.

    Returns:
        None where no two tasks share a trainable variable below a common tensor.
    """
    sources = {task: _source(tensor) for task, tensor in outputs.items()}
    ancestors = {task: _ancestors(tensor) for task, tensor in sources.items()}
    frontier = _frontier(sources, ancestors, [_source(tensor) for tensor in keras.tree.flatten(structure)])
    differentiable = tuple(_is_trainable(tensor) for tensor in frontier)
    if not any(differentiable):
        return None
    trunk = keras.Model(inputs, frontier, name="trunk")
    return Sharing(trunk, _heads(frontier, structure), differentiable)


class _Node:
    """One call of one layer, as Keras records it behind every symbolic tensor."""

    def __init__(self, operation: Any, index: int) -> None:
        self.operation = operation
        self.call = operation._inbound_nodes[index]

    @property
    def key(self) -> int:
        return id(self.call)

    @property
    def inputs(self) -> list[Any]:
        return list(self.call.input_tensors)


def _node(tensor: Any) -> _Node:
    history = tensor._keras_history
    return _Node(history.operation, history.node_index)


def _source(tensor: Any) -> Any:
    """The tensor itself, or the one that layers with ``returns_its_inputs`` were given for it."""
    while getattr(_node(tensor).operation, "returns_its_inputs", False):
        tensor = _node(tensor).inputs[tensor._keras_history.tensor_index]
    return tensor


def _ancestors(tensor: Any, given: Collection[int] = ()) -> dict[int, _Node]:
    """Nodes that a tensor depends on, sources first.

    Args:
        tensor: a symbolic tensor.
        given: ids of tensors that are taken as given; what stands behind them is left out.
    """
    found: dict[int, _Node] = {}
    stack = [] if id(tensor) in given else [(_node(tensor), False)]
    while stack:
        node, done = stack.pop()
        if done:
            found.setdefault(node.key, node)
        elif node.key not in found:
            stack.append((node, True))
            stack.extend((_node(source), False) for source in node.inputs if id(source) not in given)
    return found


def _operations(nodes: Mapping[int, _Node]) -> list[Any]:
    return list({id(node.operation): node.operation for node in nodes.values()}.values())


def _is_trainable(tensor: Any) -> bool:
    operations = _operations(_ancestors(tensor))
    return any(getattr(operation, "trainable_variables", ()) for operation in operations)


def _frontier(
    outputs: Mapping[str, Any], ancestors: Mapping[str, Mapping[int, _Node]], all_outputs: Sequence[Any]
) -> list[Any]:
    """Tensors of shared nodes or inputs that are read by a node of one task, or are outputs themselves."""
    users: dict[int, int] = {}
    for nodes in ancestors.values():
        for key in nodes:
            users[key] = users.get(key, 0) + 1
    crossing: dict[int, Any] = {}

    def is_given(tensor: Any) -> bool:
        node = _node(tensor)
        return users.get(node.key, 0) > 1 or not node.inputs

    for nodes in [*ancestors.values(), *(_ancestors(tensor) for tensor in all_outputs)]:
        for node in nodes.values():
            if users.get(node.key, 0) <= 1:
                crossing.update({id(source): source for source in node.inputs if is_given(source)})
    crossing.update({id(tensor): tensor for tensor in [*outputs.values(), *all_outputs] if is_given(tensor)})
    return list(crossing.values())


def _heads(frontier: Sequence[Any], structure: Any) -> keras.Model:
    """The part of the graph behind the frontier, called again on new inputs."""
    new_inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in frontier]
    values = {id(old): new for old, new in zip(frontier, new_inputs, strict=True)}
    flat_outputs = keras.tree.flatten(structure)
    frontier_ids = set(values)
    for output in flat_outputs:
        for node in _ancestors(output, frontier_ids).values():
            _call_again(node, values)
    new_outputs = keras.tree.pack_sequence_as(structure, [values[id(output)] for output in flat_outputs])
    return keras.Model(new_inputs, new_outputs, name="heads")


def _call_again(node: _Node, values: dict[int, Any]) -> None:
    """Calls a layer on the new tensors, once."""
    outputs = list(node.call.output_tensors)
    if not node.inputs or all(id(output) in values for output in outputs):
        return
    args, kwargs = node.call.arguments.fill_in(values)
    result = node.operation(*args, **kwargs)
    for old, new in zip(outputs, keras.tree.flatten(result), strict=True):
        values.setdefault(id(old), new)
