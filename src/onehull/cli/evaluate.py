"""`onehull evaluate`: the report on the test part."""

from __future__ import annotations

from onehull.cli.options import BaselineChoice, DataDirectory, Force, OutDirectory, SpecPath, open_project

EXAMPLES = (
    "[bold]Example[/]  onehull evaluate recipes/kuairand.yaml --data kuairand_pure --out runs/kuairand "
    "--baseline single"
)


def command(
    spec: SpecPath,
    data: DataDirectory = None,
    out: OutDirectory = None,
    baseline: BaselineChoice = "none",
    force: Force = False,
) -> None:
    """Report on the test part: a table here, plots in report.html."""
    from onehull.evaluate import report_table
    from onehull.pipeline import evaluate

    project = open_project(spec, data, out, baseline)
    project.console.print(report_table(evaluate(project, force=force)))
    project.console.print(f"Plots: {project.evaluation / 'report.html'}")
