"""The documentation runs: README, tutorial and how-tos, block by block, in an empty directory."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import markdown  # type: ignore[import-untyped]
import pytest
from mkdocs.exceptions import PluginError
from ruamel.yaml import YAML
from scripts.docs_math import with_mathml

import onehull.model
from onehull.balance import BALANCERS, WRAPPERS, get_balancer
from onehull.model import ARCHITECTURES

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    pytest.param("docs/tutorial.md", marks=pytest.mark.slow),
    pytest.param("docs/how-to/use-keras-directly.md", marks=pytest.mark.slow),
    pytest.param("docs/how-to/read-conflicts-and-gates.md", marks=pytest.mark.slow),
    pytest.param("docs/how-to/update-a-model-daily.md", marks=pytest.mark.slow),
    pytest.param("docs/explanation/embeddings.md", marks=pytest.mark.slow),
    pytest.param("docs/explanation/choosing.md", marks=pytest.mark.slow),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)")
CODE = re.compile(r"`[^`\n]+`")
FORMULA = re.compile(r"[ΣΠ⟨⟩‖√ᵀ∝≤≥·]")


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def workplace(directory: Path) -> Path:
    """What a reader has: the recipes; with the tutorial's training cut to an epoch."""
    shutil.copytree(ROOT / "recipes", directory / "recipes")
    recipe = directory / "recipes" / "video_feed.yaml"
    recipe.write_text(recipe.read_text().replace("epochs: 8", "epochs: 1"))
    return directory


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_top_to_bottom(page: str, tmp_path: Path):
    cwd = workplace(tmp_path)
    script, count = [], 0
    for kind, text in blocks(page):
        if kind == "python":
            script.append(text)
            count += 1
        elif kind == "sh":
            for line in text.splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["onehull"] and words[1] != "serve" and "DIR" not in words:
                    script.append(
                        f"import subprocess, sys; subprocess.run([sys.executable, '-m', *{words!r}], check=True)"
                    )
                    count += 1
    assert count
    (cwd / "page.py").write_text("\n".join(script))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_the_python_example_of_the_readme_fits_on_a_screen():
    example = next(text for kind, text in blocks("README.md") if kind == "python")
    assert len(example.splitlines()) <= 30


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not target.startswith("http") and not (page.parent / target).exists()
    ]
    assert not broken


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("README.md", "recipes"),
        ("docs/explanation/durations.md", "durations"),
        ("docs/explanation/choosing.md", "sharing"),
        ("docs/explanation/choosing.md", "synthetic"),
        ("docs/explanation/choosing.md", "balancers"),
        ("docs/explanation/embeddings.md", "optimizers"),
        ("docs/explanation/input.md", "input"),
        ("docs/explanation/speed.md", "train_speed"),
        ("docs/explanation/speed.md", "scaling"),
        ("docs/explanation/late-labels.md", "late_labels"),
        ("docs/explanation/survival.md", "soak"),
        ("docs/explanation/training.md", "memory"),
        ("docs/explanation/training.md", "precision"),
        ("docs/how-to/analyse-on-beam.md", "analysis"),
        ("docs/how-to/assemble-a-stream.md", "assembly"),
        ("docs/how-to/ingest-from-kafka.md", "ingest"),
    ],
)
def test_figures_of_a_page_are_those_of_the_result_file(page: str, name: str) -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    table = importlib.import_module(f"benchmarks.{name}").markdown(result)
    assert table in (ROOT / page).read_text(), (
        f"run: python -m benchmarks.{name} --profile full, with --readme or --docs"
    )


def html(text: str) -> str:
    extensions = ["tables", "pymdownx.superfences", "pymdownx.arithmatex"]
    return markdown.markdown(text, extensions=extensions, extension_configs={"pymdownx.arithmatex": {"generic": True}})


def pages() -> dict[str, str]:
    found = sorted((ROOT / "docs").rglob("*.md"))
    return {path.relative_to(ROOT / "docs").as_posix(): path.read_text(encoding="utf-8") for path in found}


def rows(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables that begin with a name in code, by that name."""
    found = re.findall(r"^\| \[?`(\w+)`(?:\]\([\w.]+\))? \| (.*) \|$", pages()[page], re.MULTILINE)
    return {name: cells.split(" | ") for name, cells in found}


def navigation() -> list[str]:
    def leaves(node: Any) -> list[str]:
        parts = node.values() if isinstance(node, dict) else node
        return [node] if isinstance(node, str) else [leaf for part in parts for leaf in leaves(part)]

    return leaves(YAML(typ="safe").load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])


def test_every_formula_becomes_mathml():
    drawn = 0
    for page, text in pages().items():
        done = with_mathml(html(text), page)
        assert "arithmatex" not in done, page
        drawn += done.count("<math ")
    assert drawn > 100


def test_cases_and_words_become_mathml():
    done = with_mathml(html("$$w = \\begin{cases} 1 & x > 0 \\\\ 0 & \\text{else} \\end{cases}$$"), "a page")
    assert done.count("<mtr>") == 2
    assert "<mtext>else</mtext>" in done
    assert "&#x0003E;" in done  # escaped once, not twice


@pytest.mark.parametrize("formula", [r"\nosuch{x}", r"a_{b", r"\mathcal L", r"\begin{cases} 1"])
def test_a_formula_that_cannot_be_drawn_stops_the_build(formula: str):
    with pytest.raises(PluginError, match=r"balancers/a\.md") as raised:
        with_mathml(html(f"As ${formula}$ says."), "balancers/a.md")
    assert repr(formula) in str(raised.value)


def test_formulas_are_tex_and_not_code():
    written = {page: text for page, text in pages().items() if not page.startswith("reference/")}
    in_code = {page: [code for code in CODE.findall(text) if FORMULA.search(code)] for page, text in written.items()}
    assert {page: formulas for page, formulas in in_code.items() if formulas} == {}


def test_every_page_is_in_the_navigation():
    assert sorted(navigation()) == sorted(pages())


def test_every_balancer_has_a_page_and_a_row_that_says_what_it_needs():
    found = rows("balancers/index.md")
    assert set(found) == {*BALANCERS, *WRAPPERS}
    for name, make in BALANCERS.items():
        method = make()
        assert f"balancers/{name}.md" in pages()
        needs: str = "gram by variable" if method.grouping(["a"]) else method.needs
        assert found[name][:2] == [needs, "weighted" if method.needs == "losses" else method.heads], name
        state = found[name][2]
        assert (state == "none") == (method.init(2) == {}) or name == "static", name
        assert (found[name][3] == "B") == method.reevaluates


def test_every_wrapper_has_a_row_that_says_what_it_needs():
    # The page of the wrappers is tested for all of them beside those of the methods.
    found = rows("balancers/index.md")
    arguments: dict[str, Any] = {"clip": {"largest": 1.0}, "every": {"steps": 2}, "smooth": {"decay": 0.5}}
    arguments["by_group"] = {"patterns": ("a",)}
    for name, make in WRAPPERS.items():
        wrapper = make(get_balancer("pcgrad" if name == "by_group" else "static"), **arguments.get(name, {}))
        needs = {"losses": "what the method needs", "gram": "gram"}[wrapper.needs]
        assert found[name][0] == ("gram by variable" if wrapper.grouping(["a"]) else needs), name


def test_every_architecture_has_a_page_and_a_row_with_the_costs_of_its_page():
    found = rows("architectures/index.md")
    assert set(found) == set(ARCHITECTURES)
    for kind, (_, parameters, _) in found.items():
        # The figures of the pages are compared with the code by the tests of the parameters of each architecture.
        costs = pages()[f"architectures/{kind}.md"].split("## Cost")[1].split("##")[0]
        assert costs.lstrip().startswith(f"{parameters} parameters") or f" {parameters} parameters" in costs, kind


def test_figures_of_the_quadratic_problem_are_those_of_the_result_file():
    result = json.loads((ROOT / "benchmarks" / "results" / "quadratic.json").read_text())["methods"]
    table = re.findall(
        r"^\| `(\w+)` \| (\d\.\d\d) \| (\d\.\d\d\d) \|$", pages()["explanation/choosing.md"], re.MULTILINE
    )
    shown = {kind: (strong, weak) for kind, strong, weak in table}
    assert shown == {kind: (f"{at['strong']:.2f}", f"{at['weak']:.3f}") for kind, at in result.items()}


def test_the_public_names_of_the_model_are_those_that_its_page_lists():
    public = pages()["how-to/use-keras-directly.md"].split("## What is public")[1].split("\n\nHeads and losses")[0]
    names = re.findall(r"`(\w+)`", public.split("|---|---|")[1])
    assert sorted(names) == sorted(onehull.model.__all__)
    assert all(hasattr(onehull.model, name) for name in names)


def test_layers_and_losses_that_are_saved_are_public():
    saved = [made for name, made in keras.saving.get_custom_objects().items() if name.startswith("onehull>")]
    own = {made.__name__ for made in saved if made.__module__.rpartition(".")[0] == "onehull.model"}
    assert own
    assert own <= set(onehull.model.__all__)
