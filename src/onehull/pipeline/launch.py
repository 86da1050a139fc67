"""Several workers of one training on this machine: starts them, passes signals on, and ends them together."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from rich.console import Console

from onehull.errors import ArtifactError

_LEAVING_SECONDS = 60.0
"""How long the others may take to notice that a worker has gone, and to say so."""
_LOOK_SECONDS = 0.1
_PORTS = range(20_000, 30_000)
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
_SWITCH, _SILENT = "TF_CPP_MIN_LOG_LEVEL", "3"
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def launch(command: Sequence[str], workers: int, logs: Path, console: Console) -> int:
    """Runs a command once for each worker, and waits until all have ended.

    Worker 0 writes to this terminal, the others to files. Each has its share of the processor's cores, and finds the
    others through TF_CONFIG. When one fails, the others end too.

    Args:
        command: arguments of `onehull`.
        workers: how many.
        logs: directory for the output of workers 1 and up.
        console: where it is said which worker failed.

    Returns:
        Exit status: 0, or that of the first worker that failed, 128 + the signal where one ended it.

    Raises:
        ArtifactError: the logs cannot be written.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    with ExitStack() as stack:
        children: list[subprocess.Popen[bytes]] = []
        stack.enter_context(_passed_on(children))
        for index in range(workers):
            # Descriptor 2 of this process may lead elsewhere, see `onehull.cli.native_logs`.
            output = stack.enter_context(_log(logs, index)) if index else sys.stderr.fileno()
            children.append(_start(command, addresses, index, output))
        failed = _first_failure(children)
        _end(children, at_once=failed is None)
    if failed is None:
        return 0
    status = children[failed].returncode
    if failed and status > 0 and children[0].returncode > 0:
        return int(children[0].returncode)  # worker 0 has said what happened
    if status < 0 or failed:
        _report(console, failed, status, logs)
    return int(128 - status if status < 0 else status)


def log_file(logs: Path, index: int) -> Path:
    """Where a worker other than the first one writes."""
    return logs / f"worker-{index}.log"


def _start(command: Sequence[str], addresses: Sequence[str], index: int, output: int) -> subprocess.Popen[bytes]:
    cluster = {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}}
    share = str(max(1, (os.cpu_count() or 1) // len(addresses)))
    environment = {**dict.fromkeys(_THREADS, share), **os.environ, "TF_CONFIG": json.dumps(cluster)}
    if environment.get(_SWITCH) == _SILENT:
        del environment[_SWITCH]  # each silences itself
    # In sessions of their own they hear a Ctrl-C once, from here: a second one would stop them in the middle.
    return subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-m", "onehull", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output if index else None,
        stderr=output,
        start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  no other thread runs here
    )


def _end_with_parent() -> None:
    """Asks Linux to kill this process when the one that started it is killed: the next run must not find it at work."""
    import ctypes

    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def _first_failure(children: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Waits until one has failed, and says which; None when all have ended well."""
    while True:
        statuses = [child.poll() for child in children]
        failed = [index for index, status in enumerate(statuses) if status]
        if failed:
            # What a signal has ended is the cause of what the others report.
            return min(failed, key=lambda index: (statuses[index] or 0) > 0)
        if all(status == 0 for status in statuses):
            return None
        time.sleep(_LOOK_SECONDS)


def _end(children: Sequence[subprocess.Popen[bytes]], *, at_once: bool) -> None:
    deadline = time.monotonic() + (0 if at_once else _LEAVING_SECONDS)
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
    for child in children:
        if child.poll() is None:
            child.kill()
            child.wait()


@contextmanager
def _passed_on(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Passes Ctrl-C and SIGTERM on to all workers, who decide together what to do."""

    def send(number: int, frame: FrameType | None) -> None:
        del frame
        for child in children:
            child.send_signal(number)

    before = {number: signal.signal(number, send) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _log(logs: Path, index: int) -> Iterator[int]:
    try:
        logs.mkdir(parents=True, exist_ok=True)
        file = log_file(logs, index).open("wb")
    except OSError as error:
        raise ArtifactError(f"{log_file(logs, index)} cannot be written: {error}") from error
    with file:
        yield file.fileno()


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, below those that systems give to outgoing connections by themselves."""
    found: list[int] = []
    candidates = list(_PORTS)
    random.SystemRandom().shuffle(candidates)
    for port in candidates:
        if len(found) == count:
            break
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


def _report(console: Console, index: int, status: int, logs: Path) -> None:
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    console.print(f"worker {index} has ended with {how}.", markup=False)
    if index:
        with suppress(OSError):
            lines = log_file(logs, index).read_text(errors="replace").strip().splitlines()[-5:]
            if lines:
                text = "\n".join([f"The end of {log_file(logs, index)}:", *lines])
                console.print(text, markup=False, soft_wrap=True)
    console.print("Run the same command again: it continues from the last checkpoint.")
