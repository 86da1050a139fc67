"""The estimate of memory: sizes of variables are exact, limits are read where the system has them."""

from __future__ import annotations

import io
import math

import keras
import pytest
from rich.console import Console

from onehull.errors import SpecError
from onehull.model import build_model, compile_model
from onehull.optimizers import RowwiseAdagrad, get_embedding_optimizer
from onehull.spec.balance import StaticBalance
from onehull.spec.inputs import ModelInput
from onehull.spec.model import Mmoe, SharedBottom
from onehull.spec.tasks import BinaryTask, Task
from onehull.spec.training import Training
from onehull.train.free_memory import free_bytes, resident_bytes
from onehull.train.memory import MemoryEstimate, Part, check_tables_fit, estimate_memory, slot_bytes

GIB = 1 << 30
INPUTS = (ModelInput(name="user", kind="id", rows=1000), ModelInput(name="age", kind="dense", length=3))
TASKS: dict[str, Task] = {"click": BinaryTask(kind="binary"), "like": BinaryTask(kind="binary")}


def model_of(section=None, **training):
    model = build_model(section or SharedBottom(bottom=(32,), tower=(8,)), TASKS, INPUTS)
    compile_model(model, TASKS, StaticBalance(), Training(**training))
    return model


def parts(estimate):
    return {part.name: part.size_bytes for part in estimate.parts}


def test_sizes_of_variables_are_exact():
    model = model_of()
    found = parts(estimate_memory(model, 64))
    model.build_optimizers()
    dense = [v for v in model.trainable_variables if v is not model.tables[0]]
    assert found["embedding tables"] == 1000 * 16 * 4
    assert found["slots of the tables"] == 1000 * 4
    assert found["dense weights"] == sum(4 * math.prod(v.shape) for v in dense)
    assert found["slots of the dense weights"] == sum(4 * math.prod(v.shape) for v in model.optimizer.variables[2:])
    assert found["gradients"] == found["dense weights"]


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (RowwiseAdagrad(), 4 * 10),
        (get_embedding_optimizer("adagrad"), 4 * 50),
        (get_embedding_optimizer("lazy_adam"), None),
        (keras.optimizers.SGD(0.1), 0),
        (keras.optimizers.SGD(0.1, momentum=0.9), 4 * 50),
        (keras.optimizers.Adam(use_ema=True), 4 * 150),
        (keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)), 4 * 100),
    ],
)
def test_an_optimizer_is_asked_for_its_slots(optimizer, expected):
    variable = keras.Variable(keras.ops.zeros((10, 5)))
    (found,) = slot_bytes(optimizer, [(10, 5)])
    assert not optimizer.built
    optimizer.build([variable])
    assert found == sum(4 * math.prod(v.shape) for v in optimizer.variables if tuple(v.shape))
    assert expected is None or found == expected


def test_a_table_that_moves_as_a_whole_takes_more():
    by_rows, whole = (parts(estimate_memory(model_of(embedding_optimizer=name), 64)) for name in ("adagrad", "same"))
    assert whole["gradients"] == by_rows["gradients"] + 3 * by_rows["embedding tables"]
    assert whole["slots of the tables"] == 2 * by_rows["embedding tables"]


def test_activations_grow_with_the_batch_and_with_layers_inside_of_layers():
    small, large = (parts(estimate_memory(model_of(), batch))["activations"] for batch in (64, 640))
    assert large == pytest.approx(10 * small, rel=0.1)
    few, many = (
        parts(estimate_memory(model_of(Mmoe(kind="mmoe", experts=n, levels=((64, 64),), tower=(8,))), 64))[
            "activations"
        ]
        for n in (2, 8)
    )
    # Both layers of each of the six further experts, and their gradients: 1.5 times 64 rows of 64 numbers.
    assert many - few >= 6 * 2 * 1.5 * 64 * 64 * 4
    half = build_model(SharedBottom(bottom=(32,), tower=(8,)), TASKS, INPUTS, precision="bfloat16")
    compile_model(half, TASKS, StaticBalance(), Training())
    assert parts(estimate_memory(half, 640))["activations"] < large


def test_what_the_process_holds_counts_once():
    model = model_of()
    before = estimate_memory(model, 64, input_bytes=GIB)
    model.build_optimizers()
    assert estimate_memory(model, 64, input_bytes=GIB).need_bytes() == pytest.approx(before.need_bytes(), rel=0.02)
    assert parts(before)["rows in memory, and batches ahead"] >= GIB
    assert before.need_bytes() > GIB + resident_bytes() * 0.9
    assert before.free_bytes["host"] > resident_bytes()


def test_the_table_shows_need_and_what_can_be_had():
    estimate = MemoryEstimate((Part("embedding tables", 3 * GIB), Part("activations", GIB // 2)), {"host": 8 * GIB})
    shown = io.StringIO()
    console = Console(file=shown, width=100)
    console.print(estimate.table())
    lines = [line.split("│")[1:-1] for line in shown.getvalue().splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["embedding tables", "host", "3.00"],
        ["activations", "host", "0.50"],
        ["all", "host", "3.50"],
        ["can be had", "host", "8.00"],
    ]


@pytest.mark.parametrize(("free", "warned"), [(5 * GIB, False), (4 * GIB, True), (2 * GIB, True)])
def test_a_need_near_what_is_free_is_warned_of(free, warned):
    estimate = MemoryEstimate((Part("embedding tables", 3 * GIB), Part("activations", GIB // 2)), {"host": free})
    warning = estimate.warning()
    assert (warning is not None) == warned
    if warning is not None:
        assert f"3.50 of {free / GIB:.2f} GiB of host" in warning
        assert "embedding tables (3.00 GiB)" in warning
        assert "embedding_dim" in warning


def test_a_device_that_does_not_say_is_not_warned_of():
    assert MemoryEstimate((Part("embedding tables", 3 * GIB, "GPU:0"),), {"host": 1}).warning() is None


def test_tables_beyond_memory_are_refused_before_they_are_made():
    inputs = (ModelInput(name="user", kind="id", rows=10_000_000), ModelInput(name="item", kind="id", rows=5))
    check_tables_fit(inputs, 16, RowwiseAdagrad(), free=GIB)
    with pytest.raises(SpecError) as refused:
        check_tables_fit(inputs, 16, keras.optimizers.Adam(), free=GIB)
    text = str(refused.value)
    assert "0.60 GiB of tables and 1.19 GiB of the optimizer's slots" in text
    assert "'user' with 10,000,000 rows" in text
    assert "row-wise Adagrad" in text
    with pytest.raises(SpecError, match="must have embedding tables that memory can hold"):
        check_tables_fit([ModelInput(name="user", kind="id", rows=2**40)], 16, RowwiseAdagrad())


def system(root, files):
    for name, content in {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 4_096_000),
        (
            {
                "proc/self/cgroup": "0::/pod/container\n",
                "sys/fs/cgroup/pod/container/memory.max": "max\n",
                "sys/fs/cgroup/pod/container/memory.current": "1000000\n",
                "sys/fs/cgroup/pod/memory.max": "3000000\n",
                "sys/fs/cgroup/pod/memory.current": "2000000\n",
                "sys/fs/cgroup/pod/memory.stat": "anon 5\ninactive_file 300000\n",
            },
            1_300_000,
        ),
        (
            {  # the container sees its own group as the root
                "proc/self/cgroup": "5:cpu:/kube/a\n4:memory:/kube/a\n0::/kube/a\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000\n",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 100000\n",
            },
            600_000,
        ),
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "1000000\n",
                "sys/fs/cgroup/memory.current": "1000001\n",
            },
            0,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000\n",
            },
            4_096_000,
        ),
    ],
)
def test_free_memory_is_the_least_that_machine_and_groups_leave(tmp_path, files, free):
    assert free_bytes(root=system(tmp_path, files)) == free


def test_a_system_that_does_not_say(tmp_path):
    assert free_bytes(root=tmp_path) is None
    assert free_bytes("GPU:7") is None


def test_this_machine_says():
    free = free_bytes()
    assert free is not None
    assert free > 0
    assert 10 << 20 < resident_bytes() < 1 << 40
