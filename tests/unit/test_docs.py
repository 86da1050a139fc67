"""The documentation runs: README, tutorial and how-tos, block by block, in an empty directory."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", pytest.param("docs/tutorial.md", marks=pytest.mark.slow), "docs/how-to/use-keras-directly.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = "import subprocess, sys; subprocess.run([sys.executable, '-m', *{words!r}], check=True)"
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)")


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


def test_figures_of_the_readme_are_those_of_the_result_file():
    results = json.loads((ROOT / "benchmarks" / "results" / "recipes.json").read_text())
    sys.path.insert(0, str(ROOT))
    from benchmarks.recipes import markdown

    assert markdown(results) in (ROOT / "README.md").read_text(), "run: python -m benchmarks.recipes --profile full"
