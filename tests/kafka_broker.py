"""Apache Kafka itself, for tests: a process that they start, kill and start again."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from onehull.pipeline.launch import free_ports
from tests.server_process import ServerProcess

ROOT = Path(__file__).parents[1]
_START_SECONDS = 120
"""The first start on a machine fetches the jars."""


class KafkaBroker(ServerProcess):
    """One broker in a directory, which outlives the process.

    Args:
        directory: what the broker keeps.
        login: ``user:password`` that clients must say; empty asks for none.
    """

    def __init__(self, directory: Path, login: str = "") -> None:
        self.directory = directory
        self._login = login
        port, self._controller_port = free_ports(2)
        super().__init__("Apache Kafka", directory / "broker.log", port)

    @property
    def settings(self) -> dict[str, str]:
        """What clients say besides the address."""
        if not self._login:
            return {}
        user, _, password = self._login.partition(":")
        plain = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "PLAIN"}
        return {**plain, "sasl.username": user, "sasl.password": password}

    def start(self) -> None:
        """Starts the broker and waits until it answers."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        script = str(ROOT / "scripts" / "kafka" / "run")
        command = [script, str(self.directory), str(self.port), str(self._controller_port), self._login]
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0, **self.settings})

        def answers() -> bool:
            with suppress(KafkaException):
                admin.list_topics(timeout=1)
                return True
            return False

        self._launch(command, answers, _START_SECONDS)


def require_kafka() -> None:
    """Skips the test where the broker cannot run."""
    pytest.importorskip("confluent_kafka", reason='confluent-kafka is not installed: pip install "onehull[kafka]"')
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not on the PATH: Apache Kafka needs Java 17, and Maven to fetch it")
