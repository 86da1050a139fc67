"""Numbers of parameters of one canonical setting, against counts made by hand.

Inputs of width 256 without embeddings, experts (or bottoms) 256→128→64, three binary tasks with towers 64→32→1,
linear gates with bias. |E| = 256·128+128 + 128·64+64 = 41,152; |T| = 64·32+32 + 32+1 = 2,113.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from onehull.model import ARCHITECTURES, build_model
from onehull.spec.inputs import ModelInput
from onehull.spec.model import Model
from onehull.spec.tasks import BinaryTask

ADAPTER = TypeAdapter(Model)
TASKS = {name: BinaryTask(kind="binary") for name in ("click", "like", "share")}
DENSE = (ModelInput(name="x", kind="dense", length=256),)
E, T, K = 41_152, 2_113, 3
SHARED_BOTTOM = E + K * T
PAGES = Path(__file__).parents[2] / "docs" / "architectures"
ONE_LEVEL, TWO_LEVELS = ((128, 64),), ((128,), (64,))


def count(kind, inputs=DENSE, **fields):
    section = ADAPTER.validate_python({"kind": kind, "tower": (32,), **fields})
    return build_model(section, TASKS, inputs).count_params()


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("shared_bottom", {"bottom": (128, 64), "sharing_depth": 0}, 129_795),
        ("shared_bottom", {"bottom": (128, 64)}, 47_491),
        ("cross_stitch", {"bottom": (128, 64)}, 129_813),
        ("mmoe", {"levels": ONE_LEVEL, "experts": 4}, 174_031),
        ("mmoe", {"levels": ONE_LEVEL, "experts": 8}, 341_723),
        ("mmoe", {"levels": TWO_LEVELS, "experts": 4}, 178_143),
        ("cgc", {"levels": ONE_LEVEL}, 172_489),
        ("cgc", {"levels": ONE_LEVEL, "shared_experts": 2, "task_experts": 2}, 338_639),
        ("ple", {"levels": ONE_LEVEL}, 172_489),
        ("ple", {"levels": TWO_LEVELS}, 174_291),
        ("adatt", {"levels": TWO_LEVELS}, 133_269),
        ("adatt", {"levels": TWO_LEVELS, "task_experts": 2}, 260_211),
        ("stem", {"levels": ONE_LEVEL}, 174_031),
    ],
)
def test_the_number_of_parameters_is_that_of_the_formula(kind, fields, expected):
    assert count(kind, **fields) == expected


def test_without_experts_of_its_own_cgc_is_mmoe():
    fields = {"levels": ONE_LEVEL, "task_experts": 0, "shared_experts": 4}
    assert count("cgc", **fields) == count("mmoe", levels=ONE_LEVEL, experts=4)


def test_a_single_expert_has_no_gate():
    # Its weight would be 1 and the gate's gradient 0.
    alone = {"levels": ONE_LEVEL, "shared_experts": 0, "task_experts": 1}
    assert count("cgc", **alone) == K * (E + T)
    assert count("mmoe", levels=ONE_LEVEL, experts=1) == E + K * T


def test_general_adatt_has_a_shared_stream_but_no_gate_for_it_on_the_last_level():
    first, last = 256 * 128 + 128, 128 * 64 + 64
    gates = 4 * (256 * 4 + 4) + 3 * (128 * 4 + 4)
    expected = 4 * (first + last) + gates + K * T
    assert count("adatt", levels=TWO_LEVELS, shared_experts=1) == expected


def test_home_has_two_groups_and_gates_on_features_and_own_experts():
    rank, terms, owners = 16, 2, 3  # two groups and all tasks
    feature_gates = (owners * (2 * terms * rank * 256 + 257 * terms)) + (
        (owners + K) * (2 * terms * rank * 128 + 129 * terms)
    )
    first = owners * (256 * 128 + 4 * 128)  # batch normalisation: scale, shift, running mean and variance
    second = (owners + K) * (128 * 64 + 4 * 64)
    gates = 257 * (2 + 2 + 3) + K * (257 * 3)  # those of the tasks read two streams of 128
    self_gates = 257 * owners + K * 257
    groups = {"view": ("click",), "act": ("like", "share")}
    expected = feature_gates + first + second + gates + self_gates + K * T
    assert count("home", levels=TWO_LEVELS, groups=groups) == expected


@pytest.mark.parametrize("kind", ["shared_bottom", "mmoe", "cgc", "ple", "adatt", "cross_stitch", "stem", "home"])
def test_the_page_of_an_architecture_says_what_it_costs(kind):
    levels = TWO_LEVELS if kind in ("ple", "adatt", "home") else ONE_LEVEL
    stack = (128, 64) if kind in ("shared_bottom", "cross_stitch") else levels
    fields: dict[str, Any] = {"bottom" if stack == (128, 64) else "levels": stack}
    if kind == "home":
        fields["groups"] = {"view": ("click",), "act": ("like", "share")}
    page = (PAGES / f"{kind}.md").read_text(encoding="utf-8")
    costs = page.split("## Cost")[1].split("##")[0]
    parameters, ratio = count(kind, **fields), count(kind, **fields) / SHARED_BOTTOM
    assert f"{parameters:,} parameters" in costs
    assert kind == "shared_bottom" or f"{ratio:.1f} times" in costs


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_the_page_of_an_architecture_has_a_section_that_is_valid(kind):
    page = (PAGES / f"{kind}.md").read_text(encoding="utf-8")
    document = YAML(typ="safe").load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    assert ADAPTER.validate_python(document["model"]).kind == kind


def test_tables_of_each_task_multiply_the_embeddings():
    ids = (ModelInput(name="user", kind="id", rows=100, dim=256),)
    for kind in ("cgc", "stem"):
        table, dense = 100 * 256, count(kind, levels=ONE_LEVEL)
        copies = count(kind, ids, levels=ONE_LEVEL, **({} if kind == "stem" else {"task_embeddings": True}))
        assert copies == dense + (K + 1) * table
