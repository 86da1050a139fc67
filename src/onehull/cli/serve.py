"""`onehull serve`: the ranking service and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = (
    "[bold]Examples[/]  onehull serve runs/feed/bundle/video_feed --port 8000\n\n"
    "onehull serve runs/feed/bundle/video_feed --features runs/feed/feature_store"
)


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: its latest version, or one version.")],
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: the spec's, loopback.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port. Default: the spec's.")] = None,
    events: Annotated[
        Path | None, typer.Option("--events", metavar="DIR", help="Where feedback is appended. Default: events/ here.")
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            "--features", metavar="DIR", help="A feature store (onehull features): attributes of now, not the bundle's."
        ),
    ] = None,
) -> None:
    """Serve ranked feeds: POST /rank, POST /events, and a page at /."""
    from onehull.serve import serve

    serve(bundle, host=host, port=port, events=events or Path("events"), features=features)
