"""`onehull run`: all steps, from the input to the bundle."""

from __future__ import annotations

from onehull.cli.options import BaselineChoice, DataDirectory, Force, OutDirectory, SpecPath, open_project

EXAMPLES = (
    "[bold]Example[/]  onehull run recipes/census_income.yaml --data census_income_kdd --out runs/census\n\n"
    "What has not changed is kept; after an interruption the same command continues."
)


def command(
    spec: SpecPath,
    data: DataDirectory = None,
    out: OutDirectory = None,
    baseline: BaselineChoice = "none",
    force: Force = False,
) -> None:
    """Do all of it: assemble, prepare, train, evaluate, export."""
    from onehull.evaluate import report_table
    from onehull.pipeline import run

    project = open_project(spec, data, out, baseline)
    result = run(project, force=force)
    project.console.print(report_table(result.report))
    project.console.print(f"Plots:  {project.evaluation / 'report.html'}")
    project.console.print(f"Bundle: {result.bundle.path}    serve it with: onehull serve {project.bundle}")
