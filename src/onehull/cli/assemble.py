"""`onehull assemble`: events, or ready-made tables, to samples."""

from __future__ import annotations

from typing import Annotated

import typer

from onehull.cli.options import DataDirectory, Force, OutDirectory, SpecPath, open_project
from onehull.cli.signals import until_signal

EXAMPLES = (
    "[bold]Examples[/]  onehull assemble recipes/video_feed.yaml --data world --out runs/feed\n\n"
    "onehull assemble feed.yaml --data segments --out runs/feed --follow    "
    "[dim]until Ctrl-C; the spec gives data.events.lateness[/]"
)


def command(
    spec: SpecPath,
    data: DataDirectory = None,
    out: OutDirectory = None,
    force: Force = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Assemble events as they come, and let samples go as windows close.")
    ] = False,
    commit_seconds: Annotated[
        float, typer.Option(min=0.1, help="With --follow: how often samples become durable.")
    ] = 30.0,
) -> None:
    """Join impressions with feedback inside each task's window: one sample an impression."""
    from onehull.events import read_report, report_table
    from onehull.pipeline import assemble
    from onehull.pipeline.verbs import follow as follow_log

    project = open_project(spec, data, out)
    if follow:
        with project.console.status("reading the log") as status:
            follow_log(project, until_signal(), status.update, commit_seconds)
        project.console.print(f"[green]✓[/] [bold]assemble[/]  {status.status}  [dim]{project.stream}[/]")
        return
    assemble(project, force=force)
    project.console.print(report_table(read_report(project.samples.parent)))
    project.console.print(f"Plots: {project.samples.parent / 'data_report.html'}", soft_wrap=True)
