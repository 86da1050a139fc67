"""The world in the terminal."""

from __future__ import annotations

from rich.table import Table

from onehull.world.simulate import WorldSummary


def summary_table(summary: WorldSummary) -> Table:
    """Sizes, true rates and delivered lines of a simulated world."""
    table = Table(title=f"Simulated world (seed {summary.seed})", title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    for name in ("users", "items", "days", "impressions"):
        table.add_row(name, f"{getattr(summary, name):,}")
    for name, rate in summary.true_rates.items():
        text = f"{rate:.1f}" if name.startswith("watch") else f"{rate:.2%}"
        table.add_row(f"true {name.replace('_', ' ')}", text)
    for name, count in summary.delivered.items():
        if name != "impression":
            table.add_row(f"lines: {name.replace('_', ' ')}", f"{count:,}")
    return table
