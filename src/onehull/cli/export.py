"""`onehull export`: the next version of the bundle."""

from __future__ import annotations

from onehull.cli.options import DataDirectory, Force, OutDirectory, SpecPath, open_project

EXAMPLES = "[bold]Example[/]  onehull export recipes/kuairand.yaml --data kuairand_pure --out runs/kuairand"


def command(spec: SpecPath, data: DataDirectory = None, out: OutDirectory = None, force: Force = False) -> None:
    """Export SavedModel and LiteRT; refuse when they disagree with Keras by more than 1e-4 on real rows."""
    from onehull.pipeline import export

    project = open_project(spec, data, out)
    parity = export(project, force=force).manifest.parity
    worst = max([*parity.savedmodel.values(), *parity.litert.values()], default=0.0)
    project.console.print(f"Largest difference between Keras, SavedModel and LiteRT on {parity.rows} rows: {worst:.1e}")
