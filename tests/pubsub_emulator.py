"""Google's emulator of Pub/Sub, for tests: a process that they start and kill. It keeps everything in memory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from onehull.pipeline.launch import free_ports

_START_SECONDS = 60
_SDK = Path("platform") / "pubsub-emulator" / "lib"
PROJECT = "onehull-tests"


class PubSubEmulator:
    """One emulator.

    Args:
        log: file for what it says.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What PUBSUB_EMULATOR_HOST must be."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and waits until it listens."""
        command = ["java", "-jar", str(require_emulator()), "--host=127.0.0.1", f"--port={self.port}"]
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        self.kill()
        pytest.fail(f"the emulator of Pub/Sub did not start: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """``kill -9``; what it held is gone."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def require_emulator() -> Path:
    """The emulator's jar; skips the test where it is not installed."""
    pytest.importorskip("google.cloud.pubsub_v1", reason='Pub/Sub is not installed: pip install "onehull[pubsub]"')
    gcloud = shutil.which("gcloud")
    roots = [Path("/usr/lib/google-cloud-sdk"), *(Path(gcloud).resolve().parents[1:2] if gcloud else ())]
    jars = [jar for root in roots for jar in sorted((root / _SDK).glob("cloud-pubsub-emulator-*.jar"))]
    if not jars or shutil.which("java") is None:
        pytest.skip("no emulator of Pub/Sub: gcloud components install pubsub-emulator, and Java 17")
    return jars[-1]
