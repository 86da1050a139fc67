"""What training will take of memory, before it starts: an estimate that is printed, and an early refusal.

Sizes of tables, weights and slots are exact. Activations are counted from the graph of the model: what each layer puts
out for a batch is kept for the backward pass, which makes as much again. The factors below are measured
(`benchmarks/memory.py`, whose last result stands in the documentation).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from rich.table import Table

from onehull.errors import Fault, SpecError
from onehull.model import MultiTaskModel
from onehull.spec.inputs import ModelInput
from onehull.train.free_memory import free_bytes, resident_bytes
from onehull.train.telemetry import gpu_names

WARN_SHARE = 0.8
"""A need above this share of what is free is warned of: an estimate is no better than that."""

_KEPT_AND_BACK = 1.5
"""What a layer puts out is kept, and its gradient is as large, but goes before that of the layer below is complete."""
_COPIES_OF_ROWS = 4
"""Looked-up rows, their gradient, its sum by rows, the rows as the optimizer reads and writes them."""
_DENSE_COPIES = 3
"""Tensors of a table's size that an optimizer makes at each step which moves all rows."""
_RUNTIME_BYTES = 64 << 20
"""What TensorFlow takes for tracing and for its threads, beyond what it has after the model is built."""
_LOOK_UP = "ResourceGather"
_SAME_MEMORY = {"BiasAdd", "Const", "Identity", "Placeholder", "ReadVariableOp", "Relu", "Reshape", "Squeeze"}
"""Operations that take no memory of their own: they give on, or write over, what they are given."""
_BATCHES_AHEAD = 8
"""Batches that wait between the reader and the step."""


class Part(NamedTuple):
    """One thing that memory is taken for.

    Attributes:
        name: of the thing.
        size_bytes: that it takes at the peak.
        device: ``host``, or a GPU as ``GPU:0``.
    """

    name: str
    size_bytes: int
    device: str = "host"


@dataclass(frozen=True)
class MemoryEstimate:
    """What a training will take of each device at its peak.

    Attributes:
        parts: what it takes memory for; on the host, with what the process had taken before.
        free_bytes: what this process can have of each device in all; a device that does not say is left out.
    """

    parts: tuple[Part, ...]
    free_bytes: Mapping[str, int]

    def need_bytes(self, device: str = "host") -> int:
        """The sum of a device's parts."""
        return sum(part.size_bytes for part in self.parts if part.device == device)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that something is taken of."""
        return tuple(dict.fromkeys(part.device for part in self.parts))

    def table(self) -> Table:
        """For the terminal: a row for each part, then need and free memory of each device."""
        table = Table("memory", "device", title="Memory that training will take (estimated)")
        table.add_column("GiB", justify="right")
        for part in self.parts:
            table.add_row(part.name, part.device, gibibytes(part.size_bytes))
        table.add_section()
        for device in self.devices:
            table.add_row("all", device, gibibytes(self.need_bytes(device)), style="bold")
            if device in self.free_bytes:
                table.add_row("can be had", device, gibibytes(self.free_bytes[device]))
        return table

    def warning(self) -> str | None:
        """What to do where memory may run out; None where it will not."""
        tight = [name for name in self.devices if self.need_bytes(name) > WARN_SHARE * self.free_bytes.get(name, 1e99)]
        if not tight:
            return None
        of = [
            f"{gibibytes(self.need_bytes(name))} of {gibibytes(self.free_bytes[name])} GiB of {name}" for name in tight
        ]
        largest = max((part for part in self.parts if part.device == tight[0]), key=lambda part: part.size_bytes)
        return (
            f"memory may run out: training is estimated to take {', '.join(of)}. The largest part is {largest.name} "
            f"({gibibytes(largest.size_bytes)} GiB). Smaller: training.batch_size, model.embedding_dim, vocabularies "
            "(min_count, or hashed features)."
        )


def estimate_memory(model: MultiTaskModel, batch_size: int, input_bytes: int = 0) -> MemoryEstimate:
    """Estimates what the training of a compiled model takes at its peak.

    Args:
        model: a compiled model; it may have its optimizers' slots already.
        batch_size: rows of a batch, over all replicas.
        input_bytes: rows that are kept in memory.
    """
    gpus = gpu_names()
    strategy = model.distribute_strategy
    alone = bool(gpus) or strategy.num_replicas_in_sync == 1
    copies = 1 if alone else len(strategy.extended.worker_devices)
    rows = -(-batch_size // strategy.num_replicas_in_sync)
    device = gpus[0] if gpus else "host"
    training = [Part(name, copies * size, device) for name, size in _training_parts(model, rows)]
    batch = _input_row_bytes(model) * batch_size
    # What the process holds now counts once: with the variables that are there already, or without.
    there = 0 if gpus else sum(_variable_bytes(v) for v in _variables(model)) * copies
    taken = resident_bytes()
    host = [
        Part("process and libraries", max(0, taken - there) + _RUNTIME_BYTES),
        Part("rows in memory, and batches ahead", input_bytes + _BATCHES_AHEAD * batch),
    ]
    free = {name: free_bytes(name) for name in {"host", device}}
    already = {"host": taken, device: taken} if not gpus else {"host": taken, device: _on_gpu(device)}
    able = {name: size + already[name] for name, size in free.items() if size is not None}
    return MemoryEstimate((*host, *training), able)


def check_tables_fit(
    inputs: Sequence[ModelInput], dim: int, optimizer: keras.optimizers.Optimizer, free: int | None = None
) -> None:
    """Refuses tables that memory cannot hold, before they are made.

    Args:
        inputs: the encoded inputs.
        dim: width of the embeddings whose input does not say.
        optimizer: of the tables.
        free: bytes that can be had. Default: what the first GPU says, or the host.

    Raises:
        SpecError: the tables and their slots alone need more than there is.
    """
    device = next(iter(gpu_names()), "host")
    free = free_bytes(device) if free is None else free
    shapes = [(item.rows, item.dim or dim) for item in inputs if item.kind != "dense"]
    tables = sum(4 * math.prod(shape) for shape in shapes)
    slots = sum(slot_bytes(optimizer, shapes))
    if free is None or tables + slots <= free:
        return
    largest = max((item for item in inputs if item.kind != "dense"), key=lambda item: item.rows * (item.dim or dim))
    value = f"{gibibytes(tables)} GiB of tables and {gibibytes(slots)} GiB of the optimizer's slots"
    remedy = (
        f"{device} has {gibibytes(free)} GiB free. The largest is {largest.name!r} with {largest.rows:,} rows: give it "
        "a smaller dim, raise its min_count, or hash it; row-wise Adagrad has the smallest slots."
    )
    raise SpecError([Fault("features", "must have embedding tables that memory can hold", value, remedy)])


def slot_bytes(optimizer: keras.optimizers.Optimizer, shapes: Iterable[tuple[int, ...]]) -> list[int]:
    """What an optimizer keeps beside variables of some shapes, in bytes.

    It is asked: a copy of it is built for a small variable, whose slots have the variable's size or that of its rows.
    """
    probe = (2, 3)
    copy = type(optimizer).from_config(optimizer.get_config())
    copy.build([keras.Variable(tf.zeros(probe), name="probe")])
    slots = [(tuple(v.shape), tf.as_dtype(v.dtype).size) for v in copy.variables]
    whole = sum(size for shape, size in slots if shape == probe)
    by_row = sum(size for shape, size in slots if shape in {probe[:1], (probe[0], 1)})
    return [whole * math.prod(shape) + by_row * shape[0] if shape else 0 for shape in shapes]


def gibibytes(size_bytes: float) -> str:
    """Bytes as GiB, for people."""
    return f"{size_bytes / 2**30:.2f}"


def _training_parts(model: MultiTaskModel, rows: int) -> list[tuple[str, int]]:
    """What one replica takes for a model and a step of it."""
    tables = {id(table): table for table in model.tables}
    dense = [variable for variable in model.trainable_variables if id(variable) not in tables]
    still = sum(_variable_bytes(variable) for variable in model.non_trainable_variables)
    by_rows = model.embedding_optimizer
    table_shapes, dense_shapes = [tuple(v.shape) for v in tables.values()], [tuple(v.shape) for v in dense]
    table_bytes = sum(map(_variable_bytes, tables.values()))
    dense_bytes = sum(map(_variable_bytes, dense))
    whole_tables = _DENSE_COPIES * table_bytes if by_rows is None else 0
    return [
        ("embedding tables", table_bytes),
        ("slots of the tables", sum(slot_bytes(by_rows or model.optimizer, table_shapes))),
        ("dense weights", dense_bytes + still),
        ("slots of the dense weights", sum(slot_bytes(model.optimizer, dense_shapes))),
        ("gradients", dense_bytes + whole_tables),
        ("activations", _activation_bytes(model, rows)),
    ]


def _activation_bytes(model: keras.Model, rows: int) -> int:
    """What the forward and the backward pass keep for a batch, from the graph of the forward pass."""

    def forward(inputs: Any) -> Any:
        return model(inputs, training=True)

    spec = keras.tree.map_structure(lambda t: tf.TensorSpec((rows, *t.shape[1:]), t.dtype), model.input)
    graph = tf.function(forward, autograph=False).get_concrete_function(spec).graph
    kept = {True: 0, False: 0}
    for op in graph.get_operations():
        if op.type not in _SAME_MEMORY:
            kept[op.type == _LOOK_UP] += sum(_tensor_bytes(tensor) for tensor in op.outputs)
    return int(_COPIES_OF_ROWS * kept[True] + _KEPT_AND_BACK * kept[False])


def _tensor_bytes(tensor: Any) -> int:
    known = tensor.shape.is_fully_defined() and tensor.dtype.is_floating
    return math.prod(tensor.shape) * int(tensor.dtype.size) if known else 0


def _elements(tensor: Any) -> int:
    """Numbers of a symbolic input in one row of the batch."""
    return math.prod(size for size in tensor.shape[1:] if size is not None)


def _variables(model: MultiTaskModel) -> list[Any]:
    """The variables of a model and of its optimizers that are there already, each once."""
    optimizers = [model.optimizer, model.embedding_optimizer]
    own = [variable for optimizer in optimizers if optimizer is not None for variable in optimizer.variables]
    return list({id(variable): variable for variable in (*model.variables, *own)}.values())


def _variable_bytes(variable: Any) -> int:
    return math.prod(variable.shape) * int(tf.as_dtype(variable.dtype).size)


def _input_row_bytes(model: keras.Model) -> int:
    return 4 * (sum(map(_elements, keras.tree.flatten(model.input))) + len(model.output_names))


def _on_gpu(device: str) -> int:
    return int(tf.config.experimental.get_memory_info(device)["current"])
