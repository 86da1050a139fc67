"""Two quadratic tasks in conflict: what each balancer leaves of the weak one while the strong one is learned.

Strong: ``L₁ = ½ s ‖θ − a‖²``. Weak: ``L₂ = ½ (u·θ − 1)²``. At the start (θ = 0) the strong gradient is a hundred times
longer, and the way to ``a`` leads away from ``u·θ = 1`` (cosine of the gradients: −0.15). Plain summing follows the
strong task. Every method is followed until it has brought the strong loss to 15 % of its start, at steps of the same
length, so that what is compared is the way and not the learning rate.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.harness import finish, parser
from onehull.balance import BALANCERS, Stats, get_balancer

COSINE, SCALE, DISTANCE, LEVEL = -0.15, 10.0, 10.0, 0.15
STEP, MOST_STEPS = 0.02, 20_000
OPTIMUM = DISTANCE * np.array([COSINE, np.sqrt(1 - COSINE**2)])


def losses_and_rows(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Losses ``(2,)`` and gradients ``(2, 2)`` of the two tasks; u is the first axis."""
    losses = np.array([0.5 * SCALE * np.sum((theta - OPTIMUM) ** 2), 0.5 * (theta[0] - 1) ** 2])
    return losses, np.array([SCALE * (theta - OPTIMUM), [theta[0] - 1, 0.0]])


def descend(kind: str) -> np.ndarray:
    """Losses along the way ``(steps, 2)``, as shares of those at the start, until the strong task is at `LEVEL`."""
    balancer = get_balancer(kind)
    assert balancer is not None
    update = tf.function(balancer.update, jit_compile=True, autograph=False)
    observe = tf.function(balancer.observe, jit_compile=True, autograph=False)
    state, theta = balancer.init(2), np.zeros(2)
    start, _ = losses_and_rows(theta)
    way = [np.ones(2)]
    while way[-1][0] > LEVEL and len(way) < MOST_STEPS:
        losses, rows = losses_and_rows(theta)
        active = tf.ones(2, tf.bool)
        stats = Stats(tf.constant(losses), active, tf.constant(rows @ rows.T), tf.constant(len(way) - 1, tf.int64))
        weights, state = update(stats, state)
        direction = np.asarray(weights) @ rows
        length = np.linalg.norm(direction)
        if length < 1e-9:  # a Pareto-stationary point: the method does not move on
            break
        theta = theta - STEP * direction / length
        state = observe(tf.constant(losses_and_rows(theta)[0]), stats, state) if balancer.reevaluates else state
        way.append(losses_and_rows(theta)[0] / start)
    return np.array(way)


def plot(ways: dict[str, np.ndarray], path: Path) -> None:
    """The way of some methods in the plane of both losses."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    for kind, way in ways.items():
        # With two tasks UPGrad is PCGrad: the later line leaves the earlier one to be seen.
        axes.plot(way[:, 0], way[:, 1], label=kind, linewidth=1.6, linestyle="--" if kind == "upgrad" else "-")
    axes.axhline(1, color="0.6", linewidth=0.8, linestyle=":")
    axes.set(
        xlim=(1.02, LEVEL), xlabel="strong task: loss, share of the start", ylabel="weak task: loss, share of the start"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Follows every method."""
    options = parser(__doc__)
    options.add_argument("--plot", type=Path, metavar="FILE", help="draw the ways of some methods into this PNG file")
    arguments = options.parse_args()
    ways = {kind: descend(kind) for kind in sorted(BALANCERS)}
    if arguments.plot is not None:
        plot({kind: ways[kind] for kind in ("static", "pcgrad", "cagrad", "nash_mtl", "upgrad")}, arguments.plot)
    rows = [
        [kind, f"{way[-1][0]:.2f}" if way[-1][0] <= LEVEL else f"stays at {way[-1][0]:.2f}", f"{way[-1][1]:.3f}"]
        for kind, way in sorted(ways.items(), key=lambda item: item[1][-1][1])
    ]
    result = {
        kind: {"strong": round(float(w[-1][0]), 4), "weak": round(float(w[-1][1]), 4)} for kind, w in ways.items()
    }
    finish(
        "Two quadratic tasks: losses as shares of the start", ["method", "strong task", "weak task"], rows,
        {"profile": arguments.profile, "methods": result}, arguments.save,
    )  # fmt: skip


if __name__ == "__main__":
    main()
