"""The recipes on real data: they run as they are written, and reach the quality that the README reports."""

from pathlib import Path

import pytest

from onehull.pipeline import RunResult, run
from onehull.spec import load_spec

RECIPES = Path(__file__).parents[1] / "recipes"


def metric(result: RunResult, task: str, name: str) -> float:
    value = result.report.tasks[task].metrics[name]
    assert value is not None
    return float(value)


@pytest.mark.slow
def test_kuairand(kuairand: Path, tmp_path: Path):
    result = run(RECIPES / "kuairand.yaml", data=kuairand, out=tmp_path)
    assert result.report.rows == 13_390
    assert metric(result, "click", "auc") >= 0.720
    assert metric(result, "long_view", "auc") >= 0.716
    assert metric(result, "like", "auc") >= 0.80
    constant = result.report.tasks["watch"].constant
    assert constant is not None
    assert constant.source == "train"
    assert metric(result, "watch", "rmse") < constant.rmse
    assert result.report.tasks["watch"].metrics["missing"] == 1_236


@pytest.mark.slow
def test_census_income(census: Path, tmp_path: Path):
    result = run(RECIPES / "census_income.yaml", data=census, out=tmp_path)
    assert result.report.rows == 49_881
    assert metric(result, "income", "auc") >= 0.947
    assert metric(result, "never_married", "auc") >= 0.994


@pytest.mark.slow
def test_kuairand_goes_all_the_way_in_one_epoch(kuairand: Path, tmp_path: Path):
    spec = load_spec(RECIPES / "kuairand.yaml")
    quick = spec.training.model_copy(update={"epochs": 1, "tensorboard": False})
    result = run(spec.model_copy(update={"training": quick}), data=kuairand, out=tmp_path)
    assert not result.report.simulated
    assert metric(result, "click", "auc") > 0.7
    assert not result.bundle.manifest.simulated
    assert set(result.bundle.manifest.context_features) == {"tab", "hour"}


@pytest.mark.parametrize("recipe", ["kuairand", "census_income"])
def test_no_input_of_a_recipe_is_a_label_or_made_of_one(recipe: str):
    spec = load_spec(RECIPES / f"{recipe}.yaml")
    columns = {feature.column or name for name, feature in spec.features.items()}
    outcomes = {
        "kuairand": {
            "is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "play_time_ms",
            "profile_stay_time", "comment_stay_time", "is_profile_enter",
        },
        "census_income": {
            "education", "marital_stat", "instance_weight", "income_50k", "label_income_50k", "label_never_married",
            "label_college", "label_college_degree", "label_bachelor",
        },
    }  # fmt: skip
    assert not columns & outcomes[recipe]
