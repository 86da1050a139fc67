"""Where the workers of a training meet before it begins, and how each of them hears that another one has gone.

TensorFlow waits for absent workers inside of C++, without an end and without a name, so they meet here first: each
connects to worker 0, which says who is absent and, once all are there, that they may go. These connections then stay
open and silent until the training ends. The operating system closes those of a process that dies, which tells the
others at once, whatever they wait for.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from onehull.errors import ArtifactError

_LOG = logging.getLogger(__name__)
_HELLO, _ABSENT, _LATE, _GO, _OTHER, _LOST, _END = "onehull", "absent", "late", "go", "other", "lost", "end"
_PAUSE_SECONDS, _ANSWER_SECONDS = 0.2, 5.0
_KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""A machine that loses its power closes no connection: it is asked after 10 seconds, and given up after 30 more."""


@dataclass(frozen=True)
class Cluster:
    """The workers of a training.

    Attributes:
        addresses: ``host:port`` of each worker, in their order.
        index: which of them this process is.
        jobs: number of them by their name in TF_CONFIG.
    """

    addresses: tuple[str, ...]
    index: int
    jobs: Mapping[str, int]

    def named(self, workers: Iterable[int]) -> str:
        """Workers with their addresses, for messages."""
        return ", ".join(f"worker {worker} at {self.addresses[worker]}" for worker in sorted(workers))


class Connections:
    """Open connections to the other workers: to all of them for worker 0, to worker 0 for the others.

    Args:
        cluster: the workers.
        lines: the connections by worker.
    """

    def __init__(self, cluster: Cluster, lines: dict[int, Line]) -> None:
        self.cluster = cluster
        self._lost: set[int] = set()
        self._lines = lines
        self._changed = threading.Condition()

    def watch(self, on_loss: Callable[[int], None]) -> None:
        """Listens from now on, in threads of its own.

        Args:
            on_loss: called with the number of a worker that has gone without having ended.
        """
        for worker, line in self._lines.items():
            threading.Thread(target=self._listen, args=(worker, line, on_loss), daemon=True).start()

    def close(self, *, ended: bool) -> None:
        """Leaves the others.

        Args:
            ended: whether as it should; otherwise they hear that this worker has gone.
        """
        for line in self._lines.values():
            if ended:
                line.say(_END)
            line.close()

    def wait_for_loss(self, seconds: float) -> set[int]:
        """Workers that have gone; waits for the first one, since an error may be faster than the news of its cause."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._lost), seconds)
            return set(self._lost)

    def _listen(self, worker: int, line: Line, on_loss: Callable[[int], None]) -> None:
        while True:
            words = line.hear()
            if words[:1] == [_END]:
                return
            gone = int(words[1]) if words[:1] == [_LOST] else worker
            with self._changed:
                self._lost.add(gone)
                self._changed.notify_all()
            for other, way in self._lines.items():
                if self.cluster.index == 0 and other != gone:
                    way.say(_LOST, str(gone))
            on_loss(gone)
            if not words:
                return


class Line:
    """A connection that carries one message a line.

    Args:
        connection: an open one.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            if hasattr(socket, option):  # the names are those of Linux
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._connection = connection
        self._rest = b""

    def say(self, *words: str) -> None:
        """Sends a message; whoever is gone does not hear it."""
        with suppress(OSError):
            self._connection.sendall(" ".join(words).encode() + b"\n")

    def hear(self, seconds: float | None = None) -> list[str]:
        """The words of the next message; none where the other side has gone, or is silent for so long."""
        with suppress(OSError):
            self._connection.settimeout(seconds)
            while b"\n" not in self._rest and len(self._rest) < 1 << 16:
                part = self._connection.recv(4096)
                if not part:
                    return []
                self._rest += part
            message, _, self._rest = self._rest.partition(b"\n")
            return message.decode(errors="replace").split()
        return []

    def close(self) -> None:
        """Closes the connection, also for a thread that listens to it."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def meet(cluster: Cluster, timeout_seconds: float) -> Connections:
    """Waits until all workers are there.

    Args:
        cluster: the workers.
        timeout_seconds: how long to wait.

    Raises:
        ArtifactError: a worker has not come in time, has other workers in its TF_CONFIG, or the port is in use.
    """
    deadline = time.monotonic() + timeout_seconds
    if cluster.index:
        return _Guest(cluster, deadline, timeout_seconds).connections()
    with _listener(cluster, deadline) as listener:
        return _Host(cluster, deadline, timeout_seconds).connections(listener)


def _listener(cluster: Cluster, deadline: float) -> socket.socket:
    """Listens on the port of worker 0, which TensorFlow opens later."""
    port = int(cluster.addresses[0].rpartition(":")[2])
    while True:
        try:
            listener = socket.create_server(("", port))
        except OSError as error:
            if time.monotonic() < deadline:
                time.sleep(_PAUSE_SECONDS)
                continue
            rule = f"port {port} of {cluster.named([0])} must be free. {error}"
            raise ArtifactError(f"{rule}. End the program that uses it, or change TF_CONFIG.") from error
        return listener


class _Host:
    """Worker 0 until all are there."""

    def __init__(self, cluster: Cluster, deadline: float, timeout_seconds: float) -> None:
        self._cluster, self._deadline, self._timeout_seconds = cluster, deadline, timeout_seconds
        self._lines: dict[int, Line] = {}

    @property
    def _absent(self) -> list[int]:
        return [worker for worker in range(1, len(self._cluster.addresses)) if worker not in self._lines]

    def connections(self, listener: socket.socket) -> Connections:
        """Takes in the others."""
        while self._absent:
            left = self._deadline - time.monotonic()
            if left <= 0:
                self._tell(_LATE)
                for line in self._lines.values():
                    line.close()
                raise _absence(self._cluster, self._absent, self._timeout_seconds)
            listener.settimeout(left)
            with suppress(TimeoutError):
                self._take_in(Line(listener.accept()[0]))
        self._tell(_GO)
        return Connections(self._cluster, self._lines)

    def _take_in(self, line: Line) -> None:
        words = line.hear(_ANSWER_SECONDS)
        if len(words) != 3 or words[0] != _HELLO:  # workers of an earlier run that still look for worker 0
            line.close()
        elif words[2] != _listed(self._cluster.addresses):
            line.say(_OTHER, _listed(self._cluster.addresses))
            line.close()
        else:
            if words[1] in map(str, self._lines):
                self._lines.pop(int(words[1])).close()  # it has been started again
            self._lines[int(words[1])] = line
            self._tell(_ABSENT)

    def _tell(self, what: str) -> None:
        for line in self._lines.values():
            line.say(what, *map(str, self._absent))


class _Guest:
    """A worker other than 0, until all are there."""

    def __init__(self, cluster: Cluster, deadline: float, timeout_seconds: float) -> None:
        self._cluster, self._deadline, self._timeout_seconds = cluster, deadline, timeout_seconds

    def connections(self) -> Connections:
        """Looks for worker 0 until it says that all are there."""
        absent = [0]
        while time.monotonic() < self._deadline:
            line = self._reach()
            if line is None:
                time.sleep(_PAUSE_SECONDS)
                continue
            line.say(_HELLO, str(self._cluster.index), _listed(self._cluster.addresses))
            try:
                while words := line.hear(max(self._deadline - time.monotonic(), _PAUSE_SECONDS)):
                    if words[0] == _GO:
                        return Connections(self._cluster, {0: line})
                    absent = self._news(words)
            except ArtifactError:
                line.close()
                raise
            line.close()
        raise _absence(self._cluster, absent, self._timeout_seconds)

    def _reach(self) -> Line | None:
        host, _, port = self._cluster.addresses[0].rpartition(":")
        # A name may be unknown yet, and a port closed: both come with the other machine.
        with suppress(OSError):
            return Line(socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS))
        return None

    def _news(self, words: Sequence[str]) -> list[int]:
        """Who is absent."""
        if words[0] == _OTHER:
            rule = f"TF_CONFIG of worker {self._cluster.index} must name the workers that worker 0 names, {words[1:]}"
            raise ArtifactError(f"{rule}. Received {_listed(self._cluster.addresses)!r}. Give all workers the same.")
        if words[0] not in (_ABSENT, _LATE):
            return [0]
        absent = [int(word) for word in words[1:]]
        if words[0] == _LATE:
            raise _absence(self._cluster, absent, self._timeout_seconds)
        return absent


def _listed(addresses: Sequence[str]) -> str:
    return ",".join(addresses)


def _absence(cluster: Cluster, absent: Iterable[int], seconds: float) -> ArtifactError:
    remedy = "Start it, or take it out of TF_CONFIG of all workers; then start all of them again."
    rule = f"{cluster.named(absent)} must come within {seconds:g} seconds. Nothing has been heard of it"
    return ArtifactError(f"{rule}. {remedy}")
