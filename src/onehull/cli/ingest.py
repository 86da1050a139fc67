"""`onehull ingest`: a broker's messages to segment files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from onehull.cli.options import console
from onehull.cli.signals import until_signal

EXAMPLES = (
    "[bold]Examples[/]  onehull ingest segments --kafka 127.0.0.1:9092 --topic impressions --topic feedback\n\n"
    "onehull ingest segments --kafka broker:9093 --topic events --kafka-config tls.properties --metrics-port 9101\n\n"
    "onehull ingest segments --pubsub my-project --subscription events\n\n"
    "Start it several times: processes of one --group, or of one --subscription, share the work. "
    "In a spec the events are then: "
    'events: {impressions: "*/*/[0-9]*/events.jsonl", feedback: "*/*/[0-9]*/events.jsonl"}'
)


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory for segments.", file_okay=False)],
    kafka: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Kafka brokers, separated by commas.")] = None,
    pubsub: Annotated[str | None, typer.Option(metavar="PROJECT", help="Google Pub/Sub: the project.")] = None,
    subscription: Annotated[str | None, typer.Option(metavar="NAME", help="Pub/Sub: the subscription.")] = None,
    remember: Annotated[
        float, typer.Option(min=0, metavar="HOURS", help="Pub/Sub: a message is known by its id for so long.")
    ] = 24,
    topic: Annotated[list[str] | None, typer.Option(help="Topic to read; may be repeated.")] = None,
    group: Annotated[str, typer.Option(help="Processes of one group share the partitions.")] = "onehull",
    start: Annotated[
        Literal["earliest", "latest"], typer.Option(help="Where a partition without segments begins.")
    ] = "earliest",
    kafka_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Settings of librdkafka, key=value a line: SASL, TLS, fetch sizes.", dir_okay=False
        ),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One such setting; no secrets.")
    ] = None,
    quarantine_topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Send refused messages there, too.")
    ] = None,
    stop_at_end: Annotated[bool, typer.Option("--stop-at-end", help="End when everything has been read.")] = False,
    max_event_bytes: Annotated[int, typer.Option(min=1, help="Longer messages are refused.")] = 1 << 20,
    max_ahead: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Events further ahead of the clock are refused.")
    ] = 3600,
    segment_seconds: Annotated[float, typer.Option(min=0.1, help="A segment at least this often.")] = 10,
    segment_megabytes: Annotated[int, typer.Option(min=1, help="A segment at least for so much.")] = 64,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Prometheus metrics on 127.0.0.1 at this port.")
    ] = None,
) -> None:
    """Write a broker's events to segment files: each one once, whatever is killed, and whenever."""
    from onehull.streams.admission import Limits
    from onehull.streams.ingest import Ingest, Roll
    from onehull.streams.kafka import KafkaIngest, KafkaTopics
    from onehull.streams.metrics import IngestMetrics
    from onehull.streams.pubsub import PubSubIngest, PubSubSubscription
    from onehull.streams.settings import client_settings

    screen = console()
    metrics = IngestMetrics()
    if metrics_port is not None:
        metrics.serve(metrics_port)
    common: Any = {
        "limits": Limits(max_event_bytes, timedelta(seconds=max_ahead)),
        "roll": Roll(segment_megabytes << 20, segment_seconds),
        "metrics": metrics,
        "note": lambda text: screen.print(f"[yellow]![/] {escape(text)}", soft_wrap=True),
    }
    reader: Ingest
    if kafka is not None and topic and pubsub is None:
        settings = client_settings(kafka_config, setting or ())
        topics = KafkaTopics(kafka, topic, group, start, stop_at_end, settings, quarantine_topic)
        reader = KafkaIngest(topics, out, **common)
    elif pubsub is not None and subscription and kafka is None and not stop_at_end:
        source = PubSubSubscription(pubsub, subscription, timedelta(hours=remember), quarantine_topic)
        reader = PubSubIngest(source, out, **common)
    else:
        rule = "name either a broker and its topics, or a project and a subscription, which has no end to stop at"
        raise typer.BadParameter(rule, param_hint="--kafka with --topic, --pubsub with --subscription")
    with screen.status(metrics.line()) as status:
        reader.run(until_signal(lambda: status.update(metrics.line())))
    screen.print(f"[green]✓[/] [bold]ingest[/]  {metrics.line()}  [dim]{out}[/]")
