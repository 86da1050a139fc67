"""Architectures from a table to a bundle: what is trained is evaluated, exported and scored alike by every engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from onehull.model import ARCHITECTURES
from onehull.pipeline import Project, run
from onehull.spec import load_spec

GATED = {"mmoe", "cgc", "ple", "adatt", "stem", "home"}


def document(kind: str) -> dict[str, Any]:
    levels = {"levels": [[4], [3]] if kind in {"ple", "adatt", "home"} else [[4]]}
    space = {"observed_when": "click"} if kind == "esmm" else {}
    return {
        "name": "table",
        "data": {"samples": "t.parquet", "split": {"by": "random", "validation": 0.2, "test": 0.2}},
        "features": {"age": {"kind": "numeric"}, "city": {"kind": "categorical", "min_count": 1}},
        "tasks": {
            "click": {"kind": "binary", "label": "click"},
            "like": {"kind": "binary", "label": "like", **space},
            "watch": {"kind": "regression", "label": "watch"},
        },
        "model": {"kind": kind, "embedding_dim": 2, "tower": [3], **(levels if kind in GATED else {})},
        "training": {"epochs": 1, "batch_size": 64, "tensorboard": False},
        # In so small a table a city tells the click.
        "leakage": {"allowed": ["city"]},
    }


def write_table(path: Path) -> None:
    columns = {
        "age": [float(age) for age in range(200)],
        "city": ["a", "b", "c", "d"] * 50,
        "click": [0, 1] * 100,
        "like": [0, 1, 0, 0] * 50,
        "watch": [float(seconds % 30) for seconds in range(200)],
    }
    pl.DataFrame(columns).write_parquet(path)


# One that has most of what others have; the rest are slow together.
KINDS = [kind if kind == "ple" else pytest.param(kind, marks=pytest.mark.slow) for kind in sorted(ARCHITECTURES)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_architecture_goes_all_the_way(kind: str, tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet")
    result = run(load_spec(document(kind)), data=tmp_path, out=tmp_path / "out")
    assert result.report.tasks["click"].metrics["auc"] is not None
    assert result.bundle.manifest.parity.rows == 40
    experts = json.loads((tmp_path / "out" / "evaluation" / "report.json").read_text())["experts"]
    if kind not in GATED:
        assert experts is None
        return
    assert experts["rows"] == 40
    assert {"click", "like", "watch"} <= {gate["task"] for gate in experts["gates"]}
    assert "<h2>Experts</h2>" in (tmp_path / "out" / "evaluation" / "report.html").read_text()


@pytest.mark.slow
def test_the_baseline_of_a_model_with_groups_is_one_model_a_task(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet")
    spec = document("home")
    spec["model"]["groups"] = {"view": ["click", "watch"], "act": ["like"]}
    project = Project.open(load_spec(spec), data=tmp_path, out=tmp_path / "out", baseline="single")
    assert run(project).report.comparison is not None
