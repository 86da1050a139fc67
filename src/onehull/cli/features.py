"""`onehull features`: users' and items' attributes in a feature store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from onehull.cli.options import DataDirectory, OutDirectory, SpecPath, open_project

if TYPE_CHECKING:
    from onehull.store import ViewStatus

EXAMPLES = (
    "[bold]Examples[/]  onehull features apply feed.yaml --data world --out runs/feed\n\n"
    "onehull features materialize feed.yaml --data world --out runs/feed\n\n"
    "onehull features status feed.yaml --data world --out runs/feed"
)


def command(
    action: Annotated[
        Literal["apply", "materialize", "status"],
        typer.Argument(
            metavar="ACTION",
            help="apply: write the views that the spec implies. materialize: bring the values of now online. status: "
            "what waits.",
        ),
    ],
    spec: SpecPath,
    data: DataDirectory = None,
    out: OutDirectory = None,
    force: Annotated[bool, typer.Option("--force", help="Write values that have not changed, too.")] = False,
) -> None:
    """Keep users' and items' attributes in a feature store (Feast), which the ranker reads while it serves."""
    from onehull.pipeline.feature_store import apply_features, features_status, materialize_features

    project = open_project(spec, data, out)
    if action == "apply":
        apply_features(project)
    elif action == "materialize":
        materialize_features(project, force=force)
    else:
        project.console.print(_status_table(features_status(project)))


def _status_table(views: list[ViewStatus]) -> Table:
    now = datetime.now(UTC)
    table = Table()
    for column in ("view", "ids", "waiting", "materialized", "newest value", "online store"):
        table.add_column(column, justify="right" if column in {"ids", "waiting"} else "left")
    for view in views:
        ages = [_ago(moment, now) for moment in (view.materialized, view.newest)]
        table.add_row(view.view, f"{view.ids:,}", f"{view.waiting:,}", *ages, view.online)
    return table


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "never"
    seconds = max(0.0, (now - moment).total_seconds())
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit} ago"
    return f"{seconds:.0f} s ago"
