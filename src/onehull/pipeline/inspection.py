"""Looks at freshly assembled samples: leaks stop the step, and the data report is written beside them."""

from __future__ import annotations

from pathlib import Path

from onehull.pipeline.checking import show_warnings
from onehull.pipeline.progress import Bar
from onehull.pipeline.project import Project


def inspect(project: Project, directory: Path, shown: Bar) -> None:
    """Looks for leaks, and writes the data report: ``data_report.html`` and ``data_report.json``.

    Args:
        project: whose samples these are.
        directory: what assembly has filled.
        shown: told what is being done.

    Raises:
        DataError: features tell a label, or are newer than their impressions; each is named with its figure.
    """
    from onehull.monitor import data_report, guard, refuse, write_data_report

    shown.begin("looking for leaks")
    leaks = guard(project.spec, directory / project.samples.name, project.data)
    show_warnings(leaks, project.console)
    refuse(leaks, project.source)
    shown.begin("data report")
    write_data_report(data_report(project.spec, project.data, directory, leaks), directory)
