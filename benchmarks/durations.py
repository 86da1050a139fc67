"""Heads of durations on KuaiRand: errors of the watch time on validation over seeds, and what they do to other tasks.

Validation chooses the head, by RMSE; the test part is read for the chosen one alone. ``--docs`` puts the table into
docs/explanation/durations.md.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.harness import DATA, finish, parser, place
from benchmarks.recipes import with_seed
from onehull.metrics import task_metrics
from onehull.pipeline import assemble, prepare
from onehull.pipeline.project import Project
from onehull.records import read_records
from onehull.spec import Spec, load_spec
from onehull.spec.samples import SplitName
from onehull.train import predict, train

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "durations.md"
TASK = "watch"

HEADS: dict[str, tuple[dict[str, Any], float]] = {
    "linear": ({"head": {"kind": "linear"}}, 0.0001),
    "linear, log1p": ({"transform": "log1p"}, 0.1),
    "log1p": ({"head": {"kind": "log1p"}}, 0.3),
    "wlr": ({"head": {"kind": "wlr"}}, 1.0),
    "d2q": ({"head": {"kind": "d2q"}}, 0.3),
    "cread": ({"head": {"kind": "cread"}}, 0.3),
    "quantile": ({"head": {"kind": "quantile"}}, 1.0),
}
"""What each head says in the spec, and the weight of its loss, chosen on validation with one seed."""

SHOWN = {
    "rmse": "RMSE, s", "mae": "MAE, s", "xauc": "XAUC", "pcoc": "PCOC",
    "click_auc": "click AUC", "long_view_auc": "long view AUC", "like_auc": "like AUC",
}  # fmt: skip
DIGITS = {"rmse": 2, "mae": 2, "xauc": 4, "pcoc": 3}

Figures = dict[str, float]


def with_head(spec: Spec, fields: Mapping[str, Any], weight: float) -> Spec:
    """The recipe with another head of the watch time."""
    document = spec.model_dump(mode="json")
    task = {key: value for key, value in document["tasks"][TASK].items() if key not in {"head", "transform", "loss"}}
    document["tasks"][TASK] = {**task, **fields}
    document["balance"]["weights"][TASK] = weight
    return load_spec(document)


def measure(spec: Spec, records: Path, splits: Sequence[SplitName]) -> dict[str, Figures]:
    """Trains once, and measures the epoch that validation chose on some parts."""
    with tempfile.TemporaryDirectory() as directory:
        result = train(spec, records, Path(directory), progress=False)
        model = keras.models.load_model(result.model_path, compile=False)
    found: dict[str, Figures] = {split: figures(spec, records, model, split) for split in splits}
    keras.backend.clear_session()
    return found


def figures(spec: Spec, records: Path, model: keras.Model, split: SplitName) -> Figures:
    """Metrics of the watch time, and the AUC of the other tasks."""
    batches = list(read_records(records, split, batch_size=8192))
    found: Figures = {}
    predictions = predict(model, read_records(records, split, batch_size=8192))
    for name, task in spec.tasks.items():
        labels = np.concatenate([labels[name].numpy() for _, labels in batches]).ravel()
        metrics = task_metrics(task.kind, labels, predictions[name])
        wanted = {"rmse", "mae", "xauc", "pcoc"} if name == TASK else {"auc"}
        found |= {key if name == TASK else f"{name}_{key}": float(metrics[key] or 0.0) for key in sorted(wanted)}
    return found


def chosen(validation: Mapping[str, Sequence[Figures]]) -> str:
    """The head with the smallest mean RMSE; XAUC decides between heads whose RMSE is equal to two digits."""
    means = {
        name: {key: statistics.mean(run[key] for run in runs) for key in SHOWN} for name, runs in validation.items()
    }
    return min(means, key=lambda name: (round(means[name]["rmse"], 2), -means[name]["xauc"]))


def table(validation: Mapping[str, Sequence[Figures]]) -> list[list[str]]:
    """A row a head: mean over seeds, and the spread where there are several."""
    return [[name, *(_cell(key, [run[key] for run in runs]) for key in SHOWN)] for name, runs in validation.items()]


def _cell(key: str, numbers: Sequence[float]) -> str:
    digits = DIGITS.get(key, 4)
    spread = f" ± {statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{statistics.mean(numbers):.{digits}f}{spread}"


def markdown(result: Mapping[str, Any]) -> str:
    """The tables of the documentation."""
    head = ["head", *SHOWN.values()]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * len(SHOWN)}"]
    lines += [f"| {' | '.join(row)} |" for row in table(result["validation"])]
    test = table({f"{result['chosen']} (test)": result["test"]})
    return "\n".join([*lines, "", lines[0], lines[1], *(f"| {' | '.join(row)} |" for row in test)])


def compare(seeds: Sequence[int], epochs: int | None) -> dict[str, Any]:
    """Prepares the data once, then trains every head with every seed."""
    recipe = load_spec(ROOT / "recipes" / "kuairand.yaml")
    if epochs is not None:
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": epochs})})
    with tempfile.TemporaryDirectory() as out:
        project = Project.open(recipe, data=DATA / "kuairand_pure", out=out)
        assemble(project)
        prepare(project)
        validation: dict[str, list[Figures]] = {name: [] for name in HEADS}
        for seed in seeds:
            for name, (fields, weight) in HEADS.items():
                spec = with_seed(with_head(recipe, fields, weight), seed)
                validation[name].append(measure(spec, project.records, ["validation"])["validation"])
        best = chosen(validation)
        spec = with_head(recipe, *HEADS[best])
        test = [measure(with_seed(spec, seed), project.records, ["test"])["test"] for seed in seeds]
    weights = {name: weight for name, (_, weight) in HEADS.items()}
    return {"weights": weights, "validation": validation, "chosen": best, "test": test}


def main() -> None:
    """Compares the heads."""
    options = parser(__doc__)
    options.add_argument("--docs", action="store_true", help="also put the tables into the documentation")
    arguments = options.parse_args()
    fast = arguments.profile == "fast"
    seeds = range(1 if fast else 3)
    result = {"profile": arguments.profile, "seeds": len(seeds), **compare(seeds, 2 if fast else None)}
    if arguments.docs:
        place(PAGE, "durations", markdown(result))
    rows = [*table(result["validation"]), *table({f"{result['chosen']} (test)": result["test"]})]
    finish("Watch time on KuaiRand (validation)", ["head", *SHOWN.values()], rows, result, arguments.save)


if __name__ == "__main__":
    main()
