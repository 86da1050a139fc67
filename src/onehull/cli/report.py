"""`onehull report`: what became of the raw input, in the terminal."""

from __future__ import annotations

from onehull.cli.options import OutDirectory, SpecPath, open_project

EXAMPLES = "[bold]Example[/]  onehull report recipes/video_feed.yaml --out runs/feed"


def command(spec: SpecPath, out: OutDirectory = None) -> None:
    """Show the data report that `assemble` wrote: counts, labels by day, delays, telling features, drift."""
    from onehull.monitor import data_report_table, read_data_report

    project = open_project(spec, None, out)
    directory = project.samples.parent
    project.console.print(data_report_table(read_data_report(directory)))
    project.console.print(f"With plots: {directory / 'data_report.html'}", soft_wrap=True)
