"""Apache Kafka itself, for tests: a process that they start, kill and start again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from onehull.pipeline.launch import free_ports

ROOT = Path(__file__).parents[1]
_START_SECONDS = 120
"""The first start on a machine fetches the jars."""


class KafkaBroker:
    """One broker in a directory, which outlives the process.

    Args:
        directory: what the broker keeps.
        login: ``user:password`` that clients must say; empty asks for none.
    """

    def __init__(self, directory: Path, login: str = "") -> None:
        self.directory = directory
        self._login = login
        self.port, self._controller_port = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What clients connect to."""
        return f"127.0.0.1:{self.port}"

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

        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / "broker.log"
        script = str(ROOT / "scripts" / "kafka" / "run")
        command = [script, str(self.directory), str(self.port), str(self._controller_port), self._login]
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0, **self.settings})
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                admin.list_topics(timeout=1)
            except KafkaException:
                continue
            return
        self.kill()
        pytest.fail(f"Apache Kafka did not start: {log.read_text()[-2000:]}")

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def require_kafka() -> None:
    """Skips the test where the broker cannot run."""
    pytest.importorskip("confluent_kafka", reason='confluent-kafka is not installed: pip install "onehull[kafka]"')
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not on the PATH: Apache Kafka needs Java 17, and Maven to fetch it")
