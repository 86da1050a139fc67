"""`onehull check`: every fault of a spec at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onehull.cli.options import console

EXAMPLES = (
    "[bold]Examples[/]  onehull check recipes/kuairand.yaml\n\n"
    "onehull check recipes/kuairand.yaml --data kuairand_pure    [dim]also files, columns and leaks[/]"
)


def command(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="YAML file to check.", dir_okay=False)],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Also check files and columns in this directory, and look for leaks."
        ),
    ] = None,
) -> None:
    """Print every fault of a spec: place, rule, value and remedy."""
    from onehull.pipeline import check

    screen = console()
    check(spec, data=data, console=screen)
    looked = "the spec and its data" if data is not None else "the spec (files, columns and leaks: --data DIR)"
    screen.print(f"[green]✓[/] {spec}: no fault in {looked}.")
