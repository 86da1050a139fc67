"""`onehull serve`: the ranking service and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = (
    "[bold]Examples[/]  onehull serve runs/feed/bundle/video_feed --port 8000\n\n"
    "onehull serve runs/feed/bundle/video_feed --features runs/feed/feature_store\n\n"
    "onehull serve runs/feed/bundle/video_feed --events kafka://127.0.0.1:9092/impressions,feedback"
)


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: its latest version, or one version.")],
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: the spec's, loopback.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port. Default: the spec's.")] = None,
    events: Annotated[
        str,
        typer.Option("--events", metavar="PLACE", help="Directory, kafka://HOST:PORT/TOPIC or pubsub://PROJECT/TOPIC."),
    ] = "events",
    kafka_config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings of librdkafka, key=value a line: SASL, TLS.", dir_okay=False),
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
    from onehull.streams.settings import client_settings

    settings = client_settings(kafka_config, ())
    serve(bundle, host=host, port=port, events=events, features=features, kafka=settings)
