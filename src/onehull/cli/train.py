"""`onehull train`: records to a trained model."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from onehull.cli.options import DataDirectory, Force, OutDirectory, SpecPath, open_project

EXAMPLES = (
    "[bold]Examples[/]  onehull train recipes/kuairand.yaml --data kuairand_pure --out runs/kuairand\n\n"
    "onehull train recipes/kuairand.yaml --data kuairand_pure --out runs/kuairand --workers 2"
)


def command(
    spec: SpecPath,
    data: DataDirectory = None,
    out: OutDirectory = None,
    force: Force = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes on this machine that train together. On several machines: TF_CONFIG.")
    ] = 1,
) -> None:
    """Train the model on the shards; validation chooses the epoch."""
    from onehull.pipeline import train

    project = open_project(spec, data, out)
    if workers == 1:
        train(project, force=force)
        return
    from onehull.pipeline.launch import launch

    arguments = ["train", str(spec), "--data", str(project.data), "--out", str(project.out)]
    logs = project.out / "workers"
    errors = Console(stderr=True, highlight=False)
    status = launch([*arguments, *(["--force"] if force else [])], workers, logs, errors)
    if status:
        raise typer.Exit(status)
