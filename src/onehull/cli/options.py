"""Arguments that several verbs share, and how they become a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from onehull.pipeline import Project
from onehull.pipeline.project import Baseline

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="YAML file that says what is wanted.", dir_okay=False)]
DataDirectory = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Directory that the spec's paths are relative to. Default: the spec's own."
    ),
]
OutDirectory = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Directory for everything that is made. Default: runs/NAME of the spec."),
]
Force = Annotated[bool, typer.Option("--force", help="Do it again even if nothing has changed.")]
BaselineChoice = Annotated[
    Baseline, typer.Option("--baseline", help="'single' also trains one model a task and compares each task with it.")
]


def console() -> Console:
    """Where verbs print."""
    return Console(highlight=False)


def open_project(spec: Path, data: Path | None, out: Path | None, baseline: Baseline = "none") -> Project:
    """A project that reports its progress in the terminal."""
    return Project.open(spec, data=data, out=out, console=console(), baseline=baseline)
