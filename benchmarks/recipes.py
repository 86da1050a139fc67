"""Quality of the recipes on real data: test AUC over seeds, validation chooses the epoch, test is read once a seed."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, finish, parser
from onehull.pipeline import run
from onehull.spec import Spec, load_spec

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
            for name in ("auc", "gauc", "rmse", "constant_rmse", "mae", "xauc"):
                value = result.metrics.get(name)
                if value is not None:
                    values.setdefault(task, {}).setdefault(name, []).append(float(value))
    return values


def main() -> None:
    """Runs the recipes whose data are there."""
    arguments = parser(__doc__).parse_args()
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
    finish("Recipes on real data (test)", ["task", "metric", "mean", "spread over seeds"], rows, result, arguments.save)


if __name__ == "__main__":
    main()
