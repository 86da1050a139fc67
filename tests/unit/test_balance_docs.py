"""The pages of the balancers: one for each method, all alike, with examples that hold."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from onehull.balance import WRAPPERS, Stats, build_balancer
from onehull.spec.balance import Balance

DOCS = Path(__file__).parents[2] / "docs"
HEADINGS = ["Formula", "In a spec", "Cost and state", "When it fails", "Reference"]
TASKS = ["click", "like"]
PAGES = sorted(path.stem for path in (DOCS / "balancers").glob("*.md") if path.stem != "index")


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def code(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_the_headings_of_all_and_a_summary_of_a_sentence(page):
    text = text_of(f"balancers/{page}.md")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    title, summary, *_ = text.split("\n\n")
    assert re.fullmatch(r"# \S.*", title)
    assert summary.endswith(".")
    assert ". " not in summary


@pytest.mark.parametrize("page", PAGES)
def test_the_example_of_a_page_is_a_section_of_its_method(page):
    (example,) = code(f"balancers/{page}.md", "yaml")
    section: Any = TypeAdapter(Balance).validate_python(YAML(typ="safe").load(example)["balance"])
    assert page in (section.kind, "wrappers")
    assert build_balancer(section, TASKS).init(len(TASKS)) is not None


def test_the_page_of_the_wrappers_names_all_of_them_and_its_python_runs():
    named = re.findall(r"^\| `(\w+)` \|", text_of("balancers/wrappers.md"), re.MULTILINE)
    assert sorted(named) == sorted(WRAPPERS)
    for block in code("balancers/wrappers.md", "python"):
        exec(block, {})  # noqa: S102


def test_the_method_of_the_how_to_works(tmp_path: Path):
    (block,) = code("how-to/add-a-balancer.md", "python")
    (tmp_path / "inverse.py").write_text(block, encoding="utf-8")
    balancer = runpy.run_path(str(tmp_path / "inverse.py"), run_name="inverse")["Inverse"]()
    stats = Stats(tf.constant([0.25, 0.75]), tf.constant([True, True]), None, tf.constant(0, tf.int64))
    weights, state = balancer.update(stats, balancer.init(2))
    np.testing.assert_allclose(weights, [1.5, 0.5])
    np.testing.assert_allclose(state["mean"], [0.25, 0.75])
