"""`onehull update`: yesterday's bundle and today's data to today's bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from onehull.cli.options import DataDirectory, Force, SpecPath, open_project

EXAMPLES = (
    "[bold]Example[/]  onehull update feed.yaml --bundle runs/feed/bundle/video_feed --data today --out runs/day-2\n\n"
    "After an interruption the same command continues."
)


def command(
    spec: SpecPath,
    bundle: Annotated[
        Path, typer.Option("--bundle", metavar="DIR", help="The bundle to begin with: its latest version, or one.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Directory for what this update makes.")],
    data: DataDirectory = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the new rows.")] = 1,
    decay: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="What earlier counts and statistics are worth beside the new ones.")
    ] = 0.9,
    new_ids: Annotated[
        Literal["unseen", "initial"],
        typer.Option("--new-ids", help="New ids begin as unseen ones were scored until now, or at initial values."),
    ] = "unseen",
    force: Force = False,
) -> None:
    """Train a bundle's model on with new data, add the new ids, and export the bundle's next version."""
    from onehull.evaluate import report_table
    from onehull.pipeline import update

    project = open_project(spec, data, out)
    result = update(project, bundle, decay=decay, epochs=epochs, new_ids=new_ids, force=force)
    project.console.print(report_table(result.report))
    project.console.print(f"Plots:  {project.evaluation / 'report.html'}")
    project.console.print(f"Bundle: {result.bundle.path}")
