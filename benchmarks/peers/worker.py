"""A contestant's process, seen from the driver."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
QUIET = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
"""The processor is compared; a worker's log is shown only when it dies."""
KEEP_PAGES = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
"""glibc keeps freed memory: a gradient as large as the tables would be given back to the kernel, and taken again page
by page, at every step. Guides to fast training on a CPU reach the same with another allocator."""


class WorkerError(RuntimeError):
    """A contestant's process ended before it should; the message holds the end of its log."""


class Worker:
    """Starts a worker and tells it what to build; the answer to that is the first to be heard.

    Args:
        python: of the contestant's environment.
        module: of the worker.
        first: what to build, see `benchmarks.peers.conversation`.
        log: file for what it prints.
        keep_pages: whether the process keeps the memory that it frees, see `KEEP_PAGES`.
    """

    def __init__(self, python: Path, module: str, first: Mapping[str, Any], log: Path, *, keep_pages: bool) -> None:
        self._log = log
        read, write = os.pipe()
        with log.open("w", encoding="utf-8") as output:
            self._process = subprocess.Popen(  # noqa: S603
                [python, "-m", module, str(write)],
                cwd=ROOT,
                env={**os.environ, **QUIET, **(KEEP_PAGES if keep_pages else {})},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[write],
                text=True,
            )
        os.close(write)
        self._answers = os.fdopen(read, encoding="utf-8")
        self.tell(first)

    def ask(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a line and waits for its answer.

        Raises:
            WorkerError: the process has ended.
        """
        self.tell(words)
        return self.hear()

    def tell(self, words: Mapping[str, Any]) -> None:
        """Sends a line; that the process has ended, `hear` finds out."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            print(json.dumps(words), file=self._process.stdin, flush=True)

    def hear(self) -> dict[str, Any]:
        """Waits for the answer to a line.

        Raises:
            WorkerError: the process has ended.
        """
        line = self._answers.readline()
        if not line:
            self.end()
            end = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise WorkerError(f"The worker ended with {self._process.returncode}. Its last words:\n{end}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Lets the process end, and waits for that."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._answers.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
