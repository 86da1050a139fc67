"""`onehull world`: a simulated population and its event log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onehull.cli.options import console

EXAMPLES = "[bold]Example[/]  onehull world world --users 2000 --items 1000 --days 8 --seed 0"


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory for the event log.", file_okay=False)],
    users: Annotated[int, typer.Option(min=1, help="Number of people.")] = 2000,
    items: Annotated[int, typer.Option(min=1, help="Number of videos.")] = 1000,
    days: Annotated[int, typer.Option(min=1, help="Days of log.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Simulate people who watch short videos, and write what they saw and did as JSON Lines."""
    from onehull.world import simulate, summary_table

    summary = simulate(out, users=users, items=items, days=days, seed=seed)
    console().print(summary_table(summary))
