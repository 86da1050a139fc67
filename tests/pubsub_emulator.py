"""Google's emulator of Pub/Sub, for tests: a process that they start and kill. It keeps everything in memory."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from onehull.pipeline.launch import free_ports
from tests.server_process import ServerProcess

_START_SECONDS = 60
_SDK = Path("platform") / "pubsub-emulator" / "lib"
PROJECT = "onehull-tests"


class PubSubEmulator(ServerProcess):
    """One emulator; its address is what PUBSUB_EMULATOR_HOST must be, and a killed one forgets what it held.

    Args:
        log: file for what it says.
    """

    def __init__(self, log: Path) -> None:
        (port,) = free_ports(1)
        super().__init__("the emulator of Pub/Sub", log, port)

    def start(self) -> None:
        """Starts it and waits until it listens."""
        command = ["java", "-jar", str(require_emulator()), "--host=127.0.0.1", f"--port={self.port}"]
        self._launch(command, self._listens, _START_SECONDS)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def require_emulator() -> Path:
    """The emulator's jar; skips the test where it is not installed."""
    pytest.importorskip("google.cloud.pubsub_v1", reason='Pub/Sub is not installed: pip install "onehull[pubsub]"')
    gcloud = shutil.which("gcloud")
    roots = [Path("/usr/lib/google-cloud-sdk"), *(Path(gcloud).resolve().parents[1:2] if gcloud else ())]
    jars = [jar for root in roots for jar in sorted((root / _SDK).glob("cloud-pubsub-emulator-*.jar"))]
    if not jars or shutil.which("java") is None:
        pytest.skip("no emulator of Pub/Sub: gcloud components install pubsub-emulator, and Java 17")
    return jars[-1]
