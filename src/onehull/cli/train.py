"""`onehull train`: records to a trained model."""

from __future__ import annotations

from onehull.cli.options import DataDirectory, Force, OutDirectory, SpecPath, open_project

EXAMPLES = "[bold]Example[/]  onehull train recipes/kuairand.yaml --data kuairand_pure --out runs/kuairand"


def command(spec: SpecPath, data: DataDirectory = None, out: OutDirectory = None, force: Force = False) -> None:
    """Train the model on the shards; validation chooses the epoch."""
    from onehull.pipeline import train

    train(open_project(spec, data, out), force=force)
