"""What a step reads of a variable, it has read before it updates it, in the graph that TensorFlow really runs."""

from __future__ import annotations

from collections import defaultdict

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from onehull.model import build_model
from onehull.spec.inputs import ModelInput
from onehull.spec.model import SharedBottom
from onehull.spec.tasks import BinaryTask
from onehull.train.steps import Steps

_PASSES_ON = ("Switch", "Enter", "Identity", "Merge")


def compiled_model(balancer, level):
    tasks = {name: BinaryTask(kind="binary") for name in ("click", "like")}
    inputs = [ModelInput(name="user", kind="id", rows=6), ModelInput(name="age", kind="dense", length=2)]
    model = build_model(SharedBottom(bottom=(4,), tower=(3,)), tasks, inputs, seed=0)
    model.compile(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.5),
        embedding_optimizer="rowwise_adagrad",
        loss="binary_crossentropy",
        balancer=balancer,
        level=level,
    )
    model.build_optimizers()
    return model


def batches():
    x = {"user": np.arange(6, dtype="int32"), "age": np.zeros((6, 2), "float32")}
    y = {name: np.ones(6, "float32") for name in ("click", "like")}
    return tf.data.Dataset.from_tensors((x, y)).repeat()


def graphs_of(call):
    """The graphs that a call runs, after TensorFlow's optimizers."""
    context.enable_run_metadata()
    try:
        call()
        return [graph.post_optimization_graph for graph in context.export_run_metadata().function_graphs]
    finally:
        context.disable_run_metadata()


def unordered(graph):
    """Updates of a variable, each with a read of it that it neither waits for nor comes before."""
    nodes = {node.name: node for node in graph.node}
    inputs = {name: [_name(edge) for edge in node.input] for name, node in nodes.items()}

    def variable(handle):
        while nodes[handle].op in _PASSES_ON:
            handle = inputs[handle][0]
        return handle

    def before(name):
        """What a node waits for in its own turn of a loop."""
        seen, left = set(), [name]
        while left:
            for edge in inputs[left.pop()]:
                if edge not in seen and nodes[edge].op != "NextIteration":
                    seen.add(edge)
                    left.append(edge)
        return seen

    reads = defaultdict(list)
    for node in graph.node:
        if node.op in ("ReadVariableOp", "ResourceGather"):
            reads[variable(inputs[node.name][0])].append(node.name)
    updates = [node.name for node in graph.node if node.op.startswith(("Assign", "ResourceScatter"))]
    found, of_read = [], {name: before(name) for names in reads.values() for name in names}
    for update in updates:
        waits_for = before(update)
        of_variable = reads[variable(inputs[update][0])]
        found += [(update, read) for read in of_variable if read not in waits_for and update not in of_read[read]]
    return found, len(updates)


def _name(edge):
    return edge.lstrip("^").split(":")[0]


@pytest.mark.parametrize(
    ("balancer", "level"),
    [(None, None), ("famo", None), ("pcgrad", "representation"), ("pcgrad", "sampled"), ("pcgrad", "parameters")],
)
def test_updates_of_a_step_wait_for_all_reads(balancer, level):
    model = compiled_model(balancer, level)
    step = tf.function(model.train_step, autograph=False)
    batch = next(iter(batches()))
    found = [unordered(graph) for graph in graphs_of(lambda: step(batch))]
    assert max(updates for _, updates in found) > 10
    assert [pairs for pairs, _ in found if pairs] == []


def test_so_do_the_updates_of_a_step_in_a_loop():
    model = compiled_model("pcgrad", "sampled")
    steps = Steps(model)
    found = [unordered(graph) for graph in graphs_of(lambda: steps(steps.iterate(lambda *_: batches()), 3))]
    assert max(updates for _, updates in found) > 10
    assert [pairs for pairs, _ in found if pairs] == []
