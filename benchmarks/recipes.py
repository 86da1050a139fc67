"""Quality of the recipes on real data: test AUC over seeds, validation chooses the epoch, test is read once a seed."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, finish, parser, place
from onehull.pipeline import run
from onehull.spec import Spec, load_spec

SHOWN = {
    "auc": "AUC",
    "gauc": "GAUC",
    "rmse": "RMSE, seconds",
    "constant_rmse": "RMSE of the training mean",
    "xauc": "XAUC",
}
RECIPES = {"kuairand": "kuairand_pure", "census_income": "census_income_kdd"}
ROOT = Path(__file__).parents[1]


def with_seed(spec: Spec, seed: int) -> Spec:
    """The same spec with another seed of training."""
    return spec.model_copy(update={"training": spec.training.model_copy(update={"seed": seed})})


def measure(recipe: str, seeds: range, out: Path) -> dict[str, dict[str, list[float]]]:
    """Metrics of each task on the test part, one value a seed."""
    values: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        # One directory for all seeds: samples and records are kept, only training is done again.
        spec = with_seed(load_spec(ROOT / "recipes" / f"{recipe}.yaml"), seed)
        report = run(spec, data=DATA / RECIPES[recipe], out=out / recipe).report
        for task, result in report.tasks.items():
            figures = {name: result.metrics.get(name) for name in SHOWN}
            if result.constant is not None:
                figures["constant_rmse"] = result.constant.rmse
            for name, value in figures.items():
                if value is not None:
                    values.setdefault(task, {}).setdefault(name, []).append(float(value))
    return values


def markdown(result: Mapping[str, Any]) -> str:
    """The table of the README: mean and spread of the test metrics over seeds."""
    lines = ["| recipe | task | metric | mean | spread over seeds |", "|---|---|---|---:|---:|"]
    for recipe in RECIPES:
        for task, metrics in result.get(recipe, {}).items():
            for name in [metric for metric in SHOWN if metric in metrics]:
                numbers = metrics[name]
                spread = f"{statistics.stdev(numbers):.4f}" if len(numbers) > 1 else "–"
                lines.append(f"| {recipe} | {task} | {SHOWN[name]} | {statistics.mean(numbers):.4f} | {spread} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the recipes whose data are there."""
    options = parser(__doc__)
    options.add_argument("--readme", action="store_true", help="also put the table into README.md")
    arguments = options.parse_args()
    seeds = range(1 if arguments.profile == "fast" else 3)
    result: dict[str, Any] = {"profile": arguments.profile, "seeds": len(seeds)}
    rows = []
    with tempfile.TemporaryDirectory() as out:
        for recipe, folder in RECIPES.items():
            if not (DATA / folder).is_dir():
                continue
            values = measure(recipe, seeds, Path(out))
            result[recipe] = values
            for task, metrics in values.items():
                for name, numbers in metrics.items():
                    spread = f"{statistics.stdev(numbers):.4f}" if len(numbers) > 1 else "–"
                    rows.append([f"{recipe} · {task}", name, f"{statistics.mean(numbers):.4f}", spread])
    if arguments.readme:
        place(ROOT / "README.md", "recipes", markdown(result))
    finish("Recipes on real data (test)", ["task", "metric", "mean", "spread over seeds"], rows, result, arguments.save)


if __name__ == "__main__":
    main()
