"""Architectures and balancers on KuaiRand: every variant with the same seeds, against the recipe with static weights.

Validation shows what each variant is worth, seed by seed; the test part is not read. The variants have the defaults of
their kinds and the recipe's learning rate and static weights: nothing but the static weights was searched for.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.durations import measure
from benchmarks.harness import DATA, finish, parser, place
from benchmarks.recipes import with_seed
from onehull.pipeline import assemble, prepare
from onehull.pipeline.project import Project
from onehull.spec import Spec, load_spec

ROOT = Path(__file__).parents[1]
PLAIN = "shared_bottom, static"
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    PLAIN: {},
    "independent": {"model": {"sharing_depth": 0}},
    **{kind: {"model": {"kind": kind}} for kind in ("mmoe", "ple", "adatt", "home")},
    **{kind: {"balance": {"kind": kind}} for kind in ("uw", "famo", "pcgrad", "cagrad", "nash_mtl")},
}
"""What each variant changes in the recipe."""
SHOWN = {"click_auc": "click AUC", "long_view_auc": "long view AUC", "like_auc": "like AUC", "rmse": "watch RMSE, s"}
FIELDS = ("embedding_dim", "tower", "dropout")
"""What every architecture keeps of the recipe's."""

Runs = dict[str, list[dict[str, float]]]


def variant(recipe: Spec, changes: Mapping[str, Mapping[str, Any]]) -> Spec:
    """The recipe with another architecture or balancer."""
    document = recipe.model_dump(mode="json")
    for section, fields in changes.items():
        kept = document[section]
        if section == "model" and "kind" in fields:
            kept = {name: kept[name] for name in FIELDS}
        if section == "balance":
            kept = {"weights": kept["weights"]}
        document[section] = {**kept, **fields}
    return load_spec(document)


def compare(seeds: Sequence[int], epochs: int | None) -> Runs:
    """Prepares the data once, then trains every variant with every seed."""
    recipe = load_spec(ROOT / "recipes" / "kuairand.yaml")
    if epochs is not None:
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": epochs})})
    runs: Runs = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as out:
        project = Project.open(recipe, data=DATA / "kuairand_pure", out=out)
        assemble(project)
        prepare(project)
        for seed, name in track([(seed, name) for seed in seeds for name in VARIANTS], "trainings", transient=True):
            spec = with_seed(variant(recipe, VARIANTS[name]), seed)
            runs[name].append(measure(spec, project.records, ["validation"])["validation"])
    return runs


def table(runs: Runs) -> list[list[str]]:
    """A row a variant: mean over seeds, and the mean difference from the plain recipe with its spread."""
    rows = []
    for name, found in runs.items():
        cells = []
        for metric in SHOWN:
            values = [run[metric] for run in found]
            digits = 2 if metric == "rmse" else 4
            text = f"{statistics.mean(values):.{digits}f}"
            if name != PLAIN and len(values) > 1:
                gains = [value - plain[metric] for value, plain in zip(values, runs[PLAIN], strict=True)]
                text += f" ({statistics.mean(gains):+.{digits}f} ± {statistics.stdev(gains):.{digits}f})"
            cells.append(text)
        rows.append([name, *cells])
    return rows


def markdown(result: Mapping[str, Any]) -> str:
    """The table of the documentation."""
    lines = [f"| variant | {' | '.join(SHOWN.values())} |", f"|---|{'---:|' * len(SHOWN)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in table(result["validation"]))])


def main() -> None:
    """Compares the variants."""
    options = parser(__doc__)
    options.add_argument("--docs", action="store_true", help="also put the table into the documentation")
    arguments = options.parse_args()
    fast = arguments.profile == "fast"
    seeds = range(1 if fast else 3)
    result = {"profile": arguments.profile, "seeds": len(seeds), "validation": compare(seeds, 1 if fast else None)}
    if arguments.docs:
        place(ROOT / "docs" / "explanation" / "choosing.md", "sharing", markdown(result))
    columns = ["variant", *SHOWN.values()]
    finish("KuaiRand, validation (difference by seed)", columns, table(result["validation"]), result, arguments.save)


if __name__ == "__main__":
    main()
