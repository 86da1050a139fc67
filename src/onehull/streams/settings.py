"""Clients of brokers, and the settings of Kafka's: what the user passes through, and what belongs to us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from onehull.errors import Fault, MissingPartError, SpecError

QUIET = {"log_level": 2}
"""Only what is critical goes to the client's own log: the rest reaches the operator as notes and errors, once."""

_OURS = {
    "bootstrap.servers": "--kafka",
    "metadata.broker.list": "--kafka",
    "group.id": "--group",
    "enable.auto.commit": "nothing: places in the stream are kept with the data",
    "enable.auto.offset.store": "nothing: places in the stream are kept with the data",
    "auto.offset.reset": "--start",
    "partition.assignment.strategy": "nothing: partitions are handed over whole",
    "enable.partition.eof": "--stop-at-end",
}
_SECRET = ("password", "secret", "oauthbearer.config", "pem")


def client_settings(file: Path | None, pairs: Iterable[str]) -> dict[str, str]:
    """Settings that pass through to the client, as librdkafka names them (``sasl.mechanisms``, ``ssl.ca.location`` …).

    Args:
        file: lines ``key=value``; ``#`` begins a comment. Secrets belong here.
        pairs: ``key=value`` of the command line; they win.

    Raises:
        SpecError: a line is no setting, a setting is ours to make, or a secret stands in the command line, which
            other users of the machine can see.
    """
    faults: list[Fault] = []
    found: dict[str, str] = {}
    for place, line in [*_lines(file), *((f"--set {pair.partition('=')[0]}", pair) for pair in pairs)]:
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key:
            faults.append(Fault(place, "must be key=value", has_value=False))
        elif key in _OURS:
            faults.append(Fault(place, f"must not set {key!r}, which is said by {_OURS[key]}", has_value=False))
        elif place.startswith("--set") and any(word in key for word in _SECRET):
            rule = "must stand in the file that --kafka-config names: other users of the machine see command lines"
            faults.append(Fault(place, rule, has_value=False))
        else:
            found[key] = value
    if faults:
        raise SpecError(faults, "Kafka settings")
    return found


def confluent_kafka() -> Any:
    """The client library.

    Raises:
        MissingPartError: it is not installed.
    """
    try:
        import confluent_kafka
    except ImportError as error:
        raise MissingPartError(f'Kafka needs confluent-kafka ({error}): pip install "onehull[kafka]"') from error
    return confluent_kafka


def google_pubsub() -> Any:
    """The client library of Google Pub/Sub.

    Raises:
        MissingPartError: it is not installed.
    """
    try:
        from google.cloud import pubsub_v1
    except ImportError as error:
        raise MissingPartError(f'Google Pub/Sub needs its client ({error}): pip install "onehull[pubsub]"') from error
    return pubsub_v1


def checked(make: Any, settings: Mapping[str, Any]) -> Any:
    """A client with these settings.

    Raises:
        SpecError: the client does not know a setting, or refuses its value.
    """
    kafka = confluent_kafka()
    try:
        return make(dict(settings))
    except kafka.KafkaException as error:
        # The client's words name the key, and a value only where it must be one of several words.
        rule = f"must suit the client: {error.args[0].str()}"
        raise SpecError([Fault("the settings", rule, has_value=False)], "Kafka settings") from error


def _lines(file: Path | None) -> list[tuple[str, str]]:
    if file is None:
        return []
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([Fault("--kafka-config", "must name a readable file", str(file))], "Kafka settings") from error
    numbered = enumerate(text.splitlines(), start=1)
    return [
        (f"{file.name}, line {number}", line)
        for number, line in numbered
        if line.strip() and not line.lstrip().startswith("#")
    ]
