"""`onehull prepare`: samples to TFRecord shards."""

from __future__ import annotations

from onehull.cli.options import DataDirectory, Force, OutDirectory, SpecPath, open_project

EXAMPLES = "[bold]Example[/]  onehull prepare recipes/kuairand.yaml --data kuairand_pure --out runs/kuairand"


def command(spec: SpecPath, data: DataDirectory = None, out: OutDirectory = None, force: Force = False) -> None:
    """Analyse the features of the samples and write TFRecord shards."""
    from onehull.pipeline import prepare

    prepare(open_project(spec, data, out), force=force)
