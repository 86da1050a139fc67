"""A server of somebody else, for tests: a process that they start, kill and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


class ServerProcess:
    """Base of the servers that tests run.

    Args:
        name: for messages.
        log: file for what it says.
        port: where it listens on the loopback interface.
    """

    def __init__(self, name: str, log: Path, port: int) -> None:
        self.port = port
        self._name, self._log = name, log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What clients connect to."""
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            if self._process.poll() is None:
                self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _launch(self, command: Sequence[str], answers: Callable[[], bool], seconds: float) -> None:
        """Starts the process and waits until it answers; fails the test where it does not."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            if answers():
                return
            time.sleep(0.05)
        self.kill()
        pytest.fail(f"{self._name} did not start: {self._log.read_text()[-2000:]}")

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)
