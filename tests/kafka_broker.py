"""Apache Kafka itself, for tests: a process that they start, kill and start again."""

from __future__ import annotations

import shutil
import subprocess
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
        tls: whether it speaks TLS, with a certificate of its own (`certificate`).
    """

    def __init__(self, directory: Path, login: str = "", *, tls: bool = False) -> None:
        self.directory = directory
        self.certificate = directory / "certificate.pem"
        self._login, self._tls = login, tls
        port, self._controller_port = free_ports(2)
        super().__init__("Apache Kafka", directory / "broker.log", port)

    @property
    def settings(self) -> dict[str, str]:
        """What clients say besides the address."""
        protocol = "SSL" if self._tls else "PLAINTEXT"
        tls = {"security.protocol": protocol, "ssl.ca.location": str(self.certificate)} if self._tls else {}
        if not self._login:
            return tls
        user, _, password = self._login.partition(":")
        plain = {"security.protocol": f"SASL_{protocol}", "sasl.mechanisms": "PLAIN"}
        return {**tls, **plain, "sasl.username": user, "sasl.password": password}

    def start(self) -> None:
        """Starts the broker and waits until it answers."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        script = str(ROOT / "scripts" / "kafka" / "run")
        keystore = str(self._keystore()) if self._tls else ""
        command = [script, str(self.directory), str(self.port), str(self._controller_port), self._login, keystore]
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0, **self.settings})

        def answers() -> bool:
            with suppress(KafkaException):
                admin.list_topics(timeout=1)
                return True
            return False

        self._launch(command, answers, _START_SECONDS)

    def _keystore(self) -> Path:
        """A key and its certificate, made once."""
        path = self.directory / "keystore.p12"
        if not path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            store = ["keytool", "-noprompt", "-keystore", str(path), "-storepass", "changeit", "-alias", "broker"]
            key = ["-genkeypair", "-storetype", "PKCS12", "-keyalg", "EC", "-dname", "CN=broker", "-validity", "10"]
            subprocess.run([*store, *key, "-ext", "SAN=IP:127.0.0.1"], check=True, capture_output=True)
            subprocess.run([*store, "-exportcert", "-rfc", "-file", self.certificate], check=True, capture_output=True)
        return path


def require_kafka() -> None:
    """Skips the test where the broker cannot run."""
    pytest.importorskip("confluent_kafka", reason='confluent-kafka is not installed: pip install "onehull[kafka]"')
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not on the PATH: Apache Kafka needs Java 17, and Maven to fetch it")
