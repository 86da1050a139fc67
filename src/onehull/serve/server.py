"""The HTTP server around the application: one process, one writer of the event log."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from onehull.errors import ArtifactError
from onehull.export import open_bundle
from onehull.serve.app import create_app

_EVENTS = Path("events")


def serve(
    bundle: str | Path,
    *,
    host: str | None = None,
    port: int | None = None,
    events: str | Path | None = _EVENTS,
    features: Path | None = None,
    kafka: Mapping[str, str] | None = None,
) -> None:
    """Serves a bundle until Ctrl-C or SIGTERM; requests that have begun are answered first.

    Args:
        bundle: a bundle: its latest version, or one version.
        host: address to listen on. Default: the spec's, loopback.
        port: port to listen on; 0 takes a free one. Default: the spec's.
        events: directory of the event log, ``kafka://HOST:PORT/TOPIC`` or ``pubsub://PROJECT/TOPIC``; None keeps none.
        features: a feature repository, which knows users and items of now.
        kafka: settings that pass through to the client of Kafka.

    Raises:
        ArtifactError: the bundle, the event log, the feature repository or the port cannot be used.
        BrokerError: the broker has no such topic.
        SpecError: `events` is no place for events.
        MissingPartError: a feature repository is named, and Feast is not installed, or a broker, and not its client.
    """
    opened = open_bundle(bundle)
    address = host if host is not None else opened.spec.serving.host
    number = free_port(address, port if port is not None else opened.spec.serving.port)
    app = create_app(opened, events, features, kafka)
    console = Console(highlight=False)

    def ready() -> None:
        shown = f"[{address}]" if ":" in address else address
        manifest = opened.manifest
        console.print(f"[bold]{manifest.name}[/] version {manifest.version} is up: http://{shown}:{number}")
        end = "" if "://" in str(events) else "/"
        told = f"Events go to {events}{end}. Stop with Ctrl-C." if events else "No events are kept."
        console.print(told, markup=False)

    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(app, address, number, ready))
    console.print("Stopped.")


def free_port(host: str, port: int) -> int:
    """The port, when it can be bound; a free one for 0.

    Raises:
        ArtifactError: it is in use or not allowed.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # The server itself shares ports (SO_REUSEPORT), so that two of them would silently split the requests.
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "Stop what listens there, or choose another with --port (0 takes a free one)."
        raise ArtifactError(f"{host}:{port} cannot be listened on: {reason}. {remedy}") from error


async def _serve(app: object, host: str, port: int, ready: Callable[[], None]) -> None:
    from granian.constants import HTTPModes, Interfaces
    from granian.server.embed import Server

    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    )
    server.on_startup(ready)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    await server.serve()
