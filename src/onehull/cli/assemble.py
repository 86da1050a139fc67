"""`onehull assemble`: events, or ready-made tables, to samples."""

from __future__ import annotations

from onehull.cli.options import DataDirectory, Force, OutDirectory, SpecPath, open_project

EXAMPLES = "[bold]Example[/]  onehull assemble recipes/video_feed.yaml --data world --out runs/feed"


def command(spec: SpecPath, data: DataDirectory = None, out: OutDirectory = None, force: Force = False) -> None:
    """Join impressions with feedback inside each task's window: one sample an impression."""
    from onehull.events import read_report, report_table
    from onehull.pipeline import assemble

    project = open_project(spec, data, out)
    assemble(project, force=force)
    project.console.print(report_table(read_report(project.samples.parent)))
    project.console.print(f"Plots: {project.samples.parent / 'data_report.html'}", soft_wrap=True)
