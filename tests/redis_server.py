"""A real Redis, for tests: a process that they start, stop for a while, kill and start again."""

from __future__ import annotations

import importlib.util
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from onehull.pipeline.launch import free_ports
from tests.server_process import ServerProcess

_START_SECONDS = 20

# Not pytest.importorskip: Feast would be imported past what OneHull does around its import.
needs_feast = pytest.mark.skipif(
    importlib.util.find_spec("feast") is None, reason='Feast is not installed: pip install "onehull[feast]"'
)


class RedisServer(ServerProcess):
    """One server in a directory; it keeps nothing on the disk, so that a new start has lost its memory.

    Args:
        directory: where its log goes.
        password: what clients must know; empty: nothing.
    """

    def __init__(self, directory: Path, password: str = "") -> None:
        self.directory = directory
        self.password = password
        (port,) = free_ports(1)
        super().__init__("Redis", directory / "redis.log", port)

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        import redis

        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        options |= {"dir": str(self.directory), **({"requirepass": self.password} if self.password else {})}
        command = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", value))]
        client = redis.Redis(port=self.port, password=self.password or None)

        def answers() -> bool:
            with suppress(redis.ConnectionError):
                return bool(client.ping())
            return False

        self._launch(command, answers, _START_SECONDS)
        client.close()

    def hold(self) -> None:
        """Stops the process where it stands: connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets a held process go on."""
        self._signal(signal.SIGCONT)


def require_redis() -> None:
    """Skips the test where the server is absent."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on the PATH: apt install redis-server")
