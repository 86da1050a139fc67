"""Processes of `benchmarks.soak`: started, killed and started again, as whatever runs services would."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

_END_SECONDS = 90.0
_PAUSE_SECONDS = 1.0


class Process:
    """A process that is to run all the time.

    Args:
        name: what it is called.
        command: what it runs.
        cwd: where.
        log: file that gets what it says.

    Attributes:
        ended: how often it was found to have ended by itself.
    """

    def __init__(self, name: str, command: list[str], cwd: Path, log: Path) -> None:
        self.name, self.ended = name, 0
        self._command, self._cwd, self._log = command, cwd, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it."""
        with self._log.open("ab") as file:
            self._process = subprocess.Popen(  # noqa: S603  our own program
                self._command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=self._cwd
            )

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self) -> int:
        """Its exit status, when it has ended."""
        assert self._process is not None
        return self._process.wait()

    def revive(self) -> None:
        """Starts it again where it has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            self.ended += 1
            self.start()

    def end(self) -> None:
        """SIGTERM; it is given time to bring to safety what it has.

        Raises:
            RuntimeError: it ended with a fault.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(_END_SECONDS)
        if status not in {0, -signal.SIGTERM}:  # one that has only just begun knows no better than to end at once
            raise RuntimeError(f"{self.name} ended with {status}:\n{self.tail()}")

    def tail(self) -> str:
        """The last that it said."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""


class Repeated:
    """A process that is done some time, and is then started anew.

    Args:
        process: what runs.

    Attributes:
        done: how often it came to its end.
        killed: how often it was killed at work.
        failed: how often it ended with a fault.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self.tail = process.tail
        self.done = self.killed = self.failed = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def start(self) -> None:
        """Starts it, again and again."""
        self._thread.start()

    def _repeat(self) -> None:
        while not self._stopped.is_set():
            self._process.start()
            self._count(self._process.wait())
            self._stopped.wait(_PAUSE_SECONDS)

    def _count(self, status: int) -> None:
        self.done += status == 0
        self.killed += status == -signal.SIGKILL
        self.failed += status not in {0, -signal.SIGKILL}

    def kill(self) -> None:
        """``kill -9``, when it is at work."""
        before, end = self.killed, time.monotonic() + _END_SECONDS
        while self.killed == before and time.monotonic() < end:
            self._process.kill()
            time.sleep(_PAUSE_SECONDS / 4)

    def end(self) -> None:
        """Waits until it is done, for the last time."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)

    def once(self) -> None:
        """Once more, to its end.

        Raises:
            RuntimeError: it ended with a fault.
        """
        self._process.start()
        if status := self._process.wait():
            raise RuntimeError(f"it ended with {status}:\n{self.tail()}")
        self.done += 1

    def leave(self) -> None:
        """Kills it for good."""
        self._stopped.set()
        self._process.kill()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)
