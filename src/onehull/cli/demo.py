"""`onehull demo`: from a simulated event log to a ranked feed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onehull.cli.options import console, open_project

EXAMPLES = "[bold]Examples[/]  onehull demo\n\nonehull demo --no-serve --out runs/demo"


def command(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Directory for everything.")] = Path("runs/demo"),
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Start the page at the end.")] = True,
    users: Annotated[int, typer.Option(min=10, help="People in the simulated world.")] = 2000,
    items: Annotated[int, typer.Option(min=10, help="Videos in the simulated world.")] = 1000,
    days: Annotated[int, typer.Option(min=4, help="Days of log.")] = 8,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the page.")] = None,
) -> None:
    """Simulate a log, train on it, report, and rank a feed: the whole way, on this machine."""
    from onehull.cli.feed import feed_table, first_user
    from onehull.evaluate import report_table
    from onehull.pipeline import run
    from onehull.serve import Ranker
    from onehull.serve import serve as serve_bundle
    from onehull.world import ensure_world

    screen = console()
    screen.print("[bold]OneHull demo[/]  people, videos and feedback are [bold]simulated[/]\n")
    ensure_world(out / "world", users=users, items=items, days=days, seed=seed)
    project = open_project(recipe_path("video_feed"), out / "world", out)
    result = run(project)
    screen.print(report_table(result.report))
    ranker = Ranker.open(result.bundle.path)
    screen.print(feed_table(ranker, first_user(ranker)))
    screen.print(f"Report with plots: {project.evaluation / 'report.html'}")
    if serve:
        serve_bundle(result.bundle.path, host=None, port=port, events=out / "events")
    else:
        screen.print(f"See the page with: onehull serve {project.bundle}")


def recipe_path(name: str) -> Path:
    """Path of a recipe; ``recipes`` at the top of the source tree is the same directory."""
    return Path(__file__).parents[1] / "recipes" / f"{name}.yaml"
