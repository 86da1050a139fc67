"""A real Redis, for tests: a process that they start, stop for a while, kill and start again."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from onehull.pipeline.launch import free_ports

_START_SECONDS = 20

# Not pytest.importorskip: Feast would be imported past what OneHull does around its import.
needs_feast = pytest.mark.skipif(
    importlib.util.find_spec("feast") is None, reason='Feast is not installed: pip install "onehull[feast]"'
)


class RedisServer:
    """One server in a directory; it keeps nothing on the disk, so that a new start has lost its memory.

    Args:
        directory: where its log goes.
        password: what clients must know; empty: nothing.
    """

    def __init__(self, directory: Path, password: str = "") -> None:
        self.directory = directory
        self.password = password
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What clients connect to."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        import redis

        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / "redis.log"
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        options |= {"dir": str(self.directory), **({"requirepass": self.password} if self.password else {})}
        command = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", value))]
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        client = redis.Redis(port=self.port, password=self.password or None)
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                client.ping()
            except redis.ConnectionError:
                time.sleep(0.05)
                continue
            client.close()
            return
        self.kill()
        pytest.fail(f"Redis did not start: {log.read_text()[-2000:]}")

    def hold(self) -> None:
        """Stops the process where it stands: connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets a held process go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            if self._process.poll() is None:
                self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)


def require_redis() -> None:
    """Skips the test where the server is absent."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on the PATH: apt install redis-server")
