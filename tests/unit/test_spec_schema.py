"""The JSON schema and the recipes."""

from pathlib import Path

import pytest

from onehull.spec import load_spec
from onehull.spec.schema import keys_at, spec_schema

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_has_no_fault(recipe: Path):
    assert load_spec(recipe).name == recipe.stem


def test_there_are_the_three_recipes():
    assert [path.stem for path in RECIPES] == ["census_income", "kuairand", "video_feed"]


def test_the_schema_tells_the_keys_of_a_place():
    document = {"features": {"a": {"kind": "numeric"}}, "data": {"split": {"by": "time"}}}
    assert keys_at(spec_schema(), document, ["features", "a"]) == ["column", "kind", "transform", "buckets", "dim"]
    assert keys_at(spec_schema(), document, ["data", "split"]) == ["by", "validation", "test"]
