"""`onehull prepare`: samples to TFRecord shards."""

from __future__ import annotations

from typing import Annotated

import typer

from onehull.cli.options import DataDirectory, Force, OutDirectory, SpecPath, open_project
from onehull.pipeline.verbs import Engine

EXAMPLES = (
    "[bold]Examples[/]  onehull prepare recipes/kuairand.yaml --data kuairand_pure --out runs/kuairand\n\n"
    'onehull prepare feed.yaml --engine beam --beam-options "--runner=FlinkRunner --flink_master=host:8081"'
)


def command(
    spec: SpecPath,
    data: DataDirectory = None,
    out: OutDirectory = None,
    force: Force = False,
    engine: Annotated[
        Engine, typer.Option("--engine", help="'beam' assembles and analyses on a runner of Apache Beam.")
    ] = "local",
    beam_options: Annotated[
        str,
        typer.Option("--beam-options", metavar="FLAGS", help="Beam's own flags. Default: the runner in this process."),
    ] = "",
) -> None:
    """Analyse the features of the samples and write TFRecord shards."""
    from onehull.pipeline import prepare

    if beam_options and engine != "beam":
        raise typer.BadParameter("--beam-options are for --engine beam. Add it, or leave them out.")
    prepare(open_project(spec, data, out), engine=engine, beam_options=beam_options, force=force)
