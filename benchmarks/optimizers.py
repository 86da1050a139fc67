"""Optimizers of embedding tables on real data, against Keras' Adam for everything: test AUC of every task over seeds.

For each recipe and optimizer, validation chooses the learning rate with one seed, by the mean AUC of the tasks; then
each seed is trained with it and the test part is read, once a seed. Keras' Adam moves all rows at every step, and its
rate is that of the dense weights too, which the others leave at the recipe's.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.progress import track

from benchmarks.harness import DATA, finish, parser, place
from benchmarks.recipes import RECIPES, with_seed
from onehull.metrics import auc
from onehull.pipeline import assemble, prepare
from onehull.pipeline.project import Project
from onehull.records import read_records
from onehull.spec import Spec, load_spec
from onehull.spec.samples import SplitName
from onehull.spec.tasks import BinaryTask
from onehull.train import predict, train

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "embeddings.md"
ADAM = "same"
RATES: dict[str, tuple[float, ...]] = {
    ADAM: (0.001, 0.0005, 0.002),
    "rowwise_adagrad": (0.01, 0.003, 0.03),
    "adagrad": (0.03, 0.01, 0.1),
    "lazy_adam": (0.003, 0.001, 0.01),
    "sgd": (10.0, 3.0, 30.0),
    "ftrl": (0.03, 0.01, 0.1),
}
"""Learning rates of each optimizer, its default first; around it, a step of three each way."""

Aucs = dict[str, float]
"""AUC of each binary task."""


def with_optimizer(spec: Spec, method: str, rate: float, epochs: int | None) -> Spec:
    """The recipe with another optimizer of the embeddings."""
    fields: dict[str, Any] = {"embedding_optimizer": method, "precision": "float32", "jit_compile": False}
    fields["learning_rate" if method == ADAM else "embedding_learning_rate"] = rate
    if epochs is not None:
        fields["epochs"] = epochs
    return spec.model_copy(update={"training": spec.training.model_copy(update=fields)})


def trained(spec: Spec, records: Path, directory: Path) -> Path:
    """Trains once; the model of the epoch that validation chose."""
    path = train(spec, records, directory, progress=False).model_path
    keras.backend.clear_session()
    return path


def measured(spec: Spec, records: Path, path: Path, split: SplitName) -> Aucs:
    """AUC of each binary task on a part of the data."""
    model = keras.models.load_model(path, compile=False)
    batches = list(read_records(records, split, batch_size=8192))
    predictions = predict(model, read_records(records, split, batch_size=8192))
    found = {}
    for task in (name for name, kind in spec.tasks.items() if isinstance(kind, BinaryTask)):
        labels = np.concatenate([labels[task].numpy() for _, labels in batches]).ravel()
        found[task] = float(auc(labels, predictions[task].ravel()) or 0.0)
    keras.backend.clear_session()
    return found


def compare(recipe: str, seeds: int, rates: int, epochs: int | None) -> dict[str, Any]:
    """Chooses each optimizer's rate, then trains all seeds with it.

    Args:
        recipe: name of the recipe.
        seeds: trainings with the chosen rate.
        rates: how many of the `RATES` are tried.
        epochs: at most so many. Default: the recipe's.
    """
    spec = load_spec(ROOT / "recipes" / f"{recipe}.yaml")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as out:
        project = Project.open(spec, data=DATA / RECIPES[recipe], out=out)
        assemble(project)
        prepare(project)
        for method in track(RATES, recipe, transient=True):
            found[method] = _best_rate(spec, method, project.records, Path(out) / method, seeds, rates, epochs)
    return found


def _best_rate(
    spec: Spec, method: str, records: Path, out: Path, seeds: int, rates: int, epochs: int | None
) -> dict[str, Any]:
    variants = {rate: with_optimizer(spec, method, rate, epochs) for rate in RATES[method][:rates]}
    models = {rate: trained(with_seed(variant, 0), records, out / str(rate)) for rate, variant in variants.items()}
    scores = {
        rate: statistics.mean(measured(spec, records, path, "validation").values()) for rate, path in models.items()
    }
    best = max(scores, key=lambda rate: scores[rate])
    others = [trained(with_seed(variants[best], seed), records, out / f"seed{seed}") for seed in range(1, seeds)]
    return {
        "rate": best,
        "validation": {str(rate): score for rate, score in scores.items()},
        "test": [measured(spec, records, path, "test") for path in (models[best], *others)],
    }


def gains(found: Mapping[str, Any], method: str, task: str) -> list[float]:
    """How much an optimizer's test AUC of a task is above Adam's, by seed."""
    pairs = zip(found[method]["test"], found[ADAM]["test"], strict=True)
    return [run[task] - adam[task] for run, adam in pairs]


def within_noise(result: Mapping[str, Any]) -> dict[str, bool]:
    """Whether each optimizer is nowhere below Adam by more than the difference's spread over seeds."""
    kept = {}
    for method in (name for name in RATES if name != ADAM):
        found = [gains(result[recipe], method, task) for recipe in result if recipe in RECIPES
                 for task in result[recipe][method]["test"][0]]  # fmt: skip
        kept[method] = all(statistics.mean(g) + (statistics.stdev(g) if len(g) > 1 else 0) >= 0 for g in found)
    return kept


def table(result: Mapping[str, Any]) -> list[list[str]]:
    """A row for each optimizer and recipe: mean over seeds, the mean difference from Adam by seed, and its spread."""
    rows = []
    for recipe, found in ((name, result[name]) for name in RECIPES if name in result):
        for method, run in found.items():
            name = "Keras Adam, all rows" if method == ADAM else f"`{method}`"
            rows.append([recipe, name, f"{run['rate']:g}", ", ".join(_cells(found, method))])
    return rows


def _cells(found: Mapping[str, Any], method: str) -> list[str]:
    cells = []
    for task in found[method]["test"][0]:
        text = f"{task} {statistics.mean(run[task] for run in found[method]['test']):.4f}"
        difference = gains(found, method, task)
        if method != ADAM and len(difference) > 1:
            text += f" ({statistics.mean(difference):+.4f} ± {statistics.stdev(difference):.4f})"
        cells.append(text)
    return cells


def markdown(result: Mapping[str, Any]) -> str:
    """The table of the documentation."""
    lines = ["| recipe | embeddings | rate | test AUC (difference from Adam by seed) |", "|---|---|---:|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in table(result))])


def main() -> None:
    """Compares the optimizers on the recipes whose data are there."""
    options = parser(__doc__)
    options.add_argument("--docs", action="store_true", help="also put the table into the documentation")
    arguments = options.parse_args()
    fast = arguments.profile == "fast"
    seeds, rates, epochs = (1, 1, 1) if fast else (3, 3, None)
    result: dict[str, Any] = {"profile": arguments.profile, "seeds": seeds}
    for recipe, folder in RECIPES.items():
        if (DATA / folder).is_dir():
            result[recipe] = compare(recipe, seeds, rates, epochs)
    result["within_noise"] = within_noise(result)
    if arguments.docs:
        place(PAGE, "optimizers", markdown(result))
    columns = ["recipe", "embeddings", "rate", "test AUC (difference from Adam by seed)"]
    finish("Optimizers of embeddings (test)", columns, table(result), result, arguments.save)


if __name__ == "__main__":
    main()
