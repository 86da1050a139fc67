"""MMoE's synthetic experiment: what architectures lose as two tasks have less in common.

Ma et al., KDD 2018, section 3.2: ``y_k = w_k·x + Σ_i sin(α_i w_k·x + β_i) + ε`` with ``x ~ N(0, I)`` of 100 dimensions,
six sinusoids, and two weight vectors of length 1 whose cosine is the correlation of the tasks. The paper does not give
its sinusoids: here ``α_i = i`` and ``β_i = 2π i / 6``. All architectures have about the same number of parameters, one
hidden layer of experts and towers of 8 units; the learning rate of each architecture at each correlation is chosen on
validation with a seed that is used for nothing else. Simulated data.

Training is long, 12,500 steps: after 3,000, what is left of the loss is what optimisation has not reached, whatever the
correlation.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from rich.progress import Progress

from benchmarks.harness import finish, parser, place
from onehull.model import build_model
from onehull.spec.inputs import ModelInput
from onehull.spec.model import Mmoe, Model, Ple, SharedBottom
from onehull.spec.tasks import RegressionTask

ROOT = Path(__file__).parents[1]
DIMENSIONS, SINUSOIDS, NOISE = 100, 6, 0.1
ROWS = {"train": 100_000, "validation": 10_000, "test": 20_000}
BATCH, TUNING_SEEDS = 256, (1001,)
CORRELATIONS = (1.0, 0.75, 0.5)
RATES = (3e-3, 1e-2)
TASKS = {name: RegressionTask(kind="regression") for name in ("first", "second")}
COMMON: dict[str, Any] = {"tower": (8,)}
ARCHITECTURES: dict[str, Model] = {
    "shared_bottom": SharedBottom(bottom=(126,), **COMMON),
    "mmoe": Mmoe(kind="mmoe", experts=8, levels=((16,),), **COMMON),
    "ple": Ple(kind="ple", shared_experts=2, task_experts=3, levels=((16,),), **COMMON),
}
"""About 15,000 parameters each."""


class Profile(NamedTuple):
    """How much is measured."""

    seeds: int
    epochs: int
    correlations: Sequence[float]
    rates: Sequence[float]


PROFILES = {"fast": Profile(2, 32, (1.0, 0.5), (1e-2,)), "full": Profile(6, 32, CORRELATIONS, RATES)}


def sample(correlation: float, seed: int) -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Inputs and labels of each part; the seed also draws the weight vectors."""
    generator = np.random.default_rng(seed)
    directions, _ = np.linalg.qr(generator.normal(size=(DIMENSIONS, 2)))
    second = correlation * directions[:, 0] + np.sqrt(1 - correlation**2) * directions[:, 1]
    numbers = np.arange(1, SINUSOIDS + 1)
    phases = 2 * np.pi * numbers / SINUSOIDS

    def labels(inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        line = inputs @ weights
        waves = np.sin(line[:, None] * numbers + phases).sum(axis=1)
        return (line + waves + generator.normal(scale=NOISE, size=len(line))).astype("float32")

    parts = {}
    for part, rows in ROWS.items():
        inputs = generator.normal(size=(rows, DIMENSIONS))
        parts[part] = (
            inputs.astype("float32"),
            {"first": labels(inputs, directions[:, 0]), "second": labels(inputs, second)},
        )
    return parts


def losses(kind: str, correlation: float, seed: int, rate: float, epochs: int) -> dict[str, float]:
    """Mean squared error after training, the mean over both tasks, on validation and test."""
    parts = sample(correlation, seed)
    keras.utils.set_random_seed(seed)
    model = build_model(ARCHITECTURES[kind], TASKS, [ModelInput(name="x", kind="dense", length=DIMENSIONS)], seed=seed)
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * ROWS["train"] // BATCH)
    model.compile(
        keras.optimizers.Adam(schedule), dict.fromkeys(TASKS, "mse"), jit_compile=False, steps_per_execution=32
    )
    x, y = parts["train"]
    model.fit({"x": x}, y, batch_size=BATCH, epochs=epochs, verbose=0)
    found = {}
    for part in ("validation", "test"):
        inputs, truth = parts[part]
        scores = model.predict({"x": inputs}, batch_size=4096, verbose=0)
        found[part] = float(np.mean([np.mean((scores[task][:, 0] - truth[task]) ** 2) for task in TASKS]))
    keras.backend.clear_session()
    return found


def measure(profile: Profile) -> dict[str, dict[str, dict[str, Any]]]:
    """Test losses over seeds of each architecture at each correlation, with the learning rate that validation chose."""
    result: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in ARCHITECTURES}
    tuned = len(profile.rates) > 1
    runs = (
        len(ARCHITECTURES)
        * len(profile.correlations)
        * (profile.seeds + tuned * len(profile.rates) * len(TUNING_SEEDS))
    )
    with Progress(transient=True) as progress:
        line = progress.add_task("trainings", total=runs)

        def train(kind: str, correlation: float, seed: int, rate: float) -> dict[str, float]:
            progress.advance(line)
            return losses(kind, correlation, seed, rate, profile.epochs)

        for correlation in profile.correlations:
            for kind in ARCHITECTURES:
                rate = profile.rates[0]
                if tuned:
                    chosen = {
                        r: statistics.mean(train(kind, correlation, seed, r)["validation"] for seed in TUNING_SEEDS)
                        for r in profile.rates
                    }
                    rate = min(chosen, key=lambda r: chosen[r])
                values = [train(kind, correlation, seed, rate)["test"] for seed in range(profile.seeds)]
                result[kind][f"{correlation:g}"] = {"test": values, "learning_rate": rate}
    return result


def parameters() -> dict[str, int]:
    """Number of parameters of each architecture."""
    inputs = [ModelInput(name="x", kind="dense", length=DIMENSIONS)]
    return {kind: build_model(section, TASKS, inputs).count_params() for kind, section in ARCHITECTURES.items()}


def increases(result: dict[str, dict[str, dict[str, Any]]], kind: str) -> list[float]:
    """How much each seed loses from the highest to the lowest correlation."""
    ends = [result[kind][f"{c:g}"]["test"] for c in (max(map(float, result[kind])), min(map(float, result[kind])))]
    return [low - high for high, low in zip(*ends, strict=True)]


def plot(result: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """Mean test loss by correlation, with the standard error over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    for kind, by_correlation in result.items():
        points = [float(c) for c in by_correlation]
        means = [statistics.mean(entry["test"]) for entry in by_correlation.values()]
        errors = [statistics.stdev(e["test"]) / len(e["test"]) ** 0.5 for e in by_correlation.values()]
        axes.errorbar(points, means, errors, label=kind, marker="o", markersize=4, linewidth=1.6, capsize=3)
    axes.set(xlabel="correlation of the tasks", ylabel="test loss (mean of both tasks)", xlim=(1.03, 0.47))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def markdown(result: Mapping[str, Any]) -> str:
    """Mean test loss of each architecture at each correlation, with the spread over seeds, and what it loses."""
    found = result["losses"]
    correlations = list(next(iter(found.values())))
    lines = [
        f"| architecture | parameters | {' | '.join(f'correlation {c}' for c in correlations)} | increase |",
        f"|---|---:|{'---:|' * len(correlations)}---:|",
    ]
    for kind, by_correlation in found.items():
        cells = [
            f"{statistics.mean(e['test']):.4f} ± {statistics.stdev(e['test']):.4f}" for e in by_correlation.values()
        ]
        lines.append(
            f"| `{kind}` | {result['parameters'][kind]:,} | {' | '.join(cells)} | {result['increase'][kind]:+.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Trains all of it."""
    options = parser(__doc__)
    options.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves into this PNG file")
    options.add_argument("--docs", action="store_true", help="also put the table and the plot into the documentation")
    arguments = options.parse_args()
    profile = PROFILES[arguments.profile]
    found = measure(profile)
    if arguments.plot is not None:
        plot(found, arguments.plot)
    rows = []
    for kind, by_correlation in found.items():
        for correlation, entry in by_correlation.items():
            spread = statistics.stdev(entry["test"])
            rows.append(
                [
                    kind,
                    correlation,
                    f"{statistics.mean(entry['test']):.4f}",
                    f"{spread:.4f}",
                    f"{entry['learning_rate']:g}",
                ]
            )
    lost = {kind: statistics.mean(increases(found, kind)) for kind in ARCHITECTURES}
    result = {
        "profile": arguments.profile,
        "seeds": profile.seeds,
        "increase": {kind: round(value, 4) for kind, value in lost.items()},
        "shared_bottom_loses_more_than_mmoe": lost["shared_bottom"] > lost["mmoe"],
        "shared_bottom_loses_more_than_ple": lost["shared_bottom"] > lost["ple"],
        "parameters": parameters(),
        "losses": found,
    }
    if arguments.docs:
        plot(found, ROOT / "docs" / "images" / "synthetic.png")
        place(ROOT / "docs" / "explanation" / "choosing.md", "synthetic", markdown(result))
    columns = ["architecture", "correlation", "test loss", "spread over seeds", "learning rate"]
    finish("MMoE's synthetic experiment (simulated data)", columns, rows, result, arguments.save)


if __name__ == "__main__":
    main()
