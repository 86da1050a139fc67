"""The event log that the service appends to, in the schema that assembly reads: the loop closes here.

Two files a day (UTC): ``impressions-DATE.jsonl`` for what was served, ``feedback-DATE.jsonl`` for what came of it;
name them in a spec as ``impressions-*.jsonl`` and ``feedback-*.jsonl``.

- One writer: a lock file keeps a second service out of the directory, and a lock orders the threads of this one.
- Lines are whole: a write that fails half-way (a full disk) is cut off again, and so is, at the start, a last line
  that a power cut left without its end.
- Feedback is on the disk (fsync) before the client hears 202. Impressions are handed to the operating system and
  reach the disk with the next feedback, at the end of the day and at the end of the service: a crash of the service
  loses none, a power cut may lose the latest.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from onehull.errors import ArtifactError
from onehull.serve.events import EventLine, Events, feedback_lines, impression_lines, moment
from onehull.serve.requests import FeedbackEvent, RankRequest
from onehull.serve.response import RankResponse

_NEW_FILE = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class EventLog(Events):
    """Appends impressions and feedback to a directory.

    Args:
        directory: made when it is missing.

    Raises:
        ArtifactError: the directory cannot be written, or another service writes to it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._files: dict[str, tuple[str, int]] = {}
        self._owner = FileLock(directory / ".writer.lock", timeout=0)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._owner.acquire()
            for path in directory.glob("*.jsonl"):
                _cut_torn_line(path)
        except Timeout as error:
            remedy = "Stop it, or give this one another directory."
            raise ArtifactError(f"{directory} is written to by another ranking service. {remedy}") from error
        except OSError as error:
            raise ArtifactError(f"{directory}: events cannot be written: {error}") from error

    def impressions(self, request: RankRequest, response: RankResponse, now: datetime | None = None) -> None:
        """See `Events.impressions`."""
        day = moment(now)
        self._append("impressions", day, impression_lines(request, response, day), durable=False)

    def feedback(self, events: Iterable[FeedbackEvent], now: datetime | None = None) -> None:
        """See `Events.feedback`."""
        day = moment(now)
        self._append("feedback", day, feedback_lines(events, day), durable=True)

    def fault(self) -> str | None:
        """See `Events.fault`: what fails here, fails at once."""
        return None

    def close(self) -> None:
        """Flushes and closes; the directory is free for another service."""
        with self._lock:
            for stream in list(self._files):
                self._release(stream)
        self._owner.release()

    def _append(self, stream: str, now: datetime, lines: Sequence[EventLine], *, durable: bool) -> None:
        if not lines:
            return
        data = b"".join(event.line + b"\n" for event in lines)
        with self._lock:
            file = self._open(stream, f"{now:%Y-%m-%d}")
            _write_whole(file, data)
            written = [os.dup(other) for _, other in self._files.values()] if durable else []
        # Without the lock: a slow disk must not hold up the impressions of the feeds that are served meanwhile.
        try:
            for copy in written:
                os.fsync(copy)
        finally:
            for copy in written:
                os.close(copy)

    def _open(self, stream: str, day: str) -> int:
        """Descriptor of the day's file; the file of the day before is flushed and closed."""
        current = self._files.get(stream)
        if current is not None and current[0] == day:
            return current[1]
        if current is not None:
            self._release(stream)
        file = os.open(self.directory / f"{stream}-{day}.jsonl", _NEW_FILE, 0o644)
        self._files[stream] = (day, file)
        return file

    def _release(self, stream: str) -> None:
        _, file = self._files.pop(stream)
        with suppress(OSError):
            os.fsync(file)
        os.close(file)


def _write_whole(file: int, data: bytes) -> None:
    """Writes all of it, or leaves the file as it was."""
    start = os.fstat(file).st_size
    written = 0
    try:
        while written < len(data):
            written += os.write(file, data[written:])
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, start)
        raise


def _cut_torn_line(path: Path) -> None:
    """Removes a last line without an end: it was never acknowledged."""
    content = path.read_bytes()[-1:]
    if content in {b"", b"\n"}:
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        block = 1 << 16
        while size > 0:
            begin = max(0, size - block)
            file.seek(begin)
            end = file.read(size - begin).rfind(b"\n")
            if end >= 0:
                file.truncate(begin + end + 1)
                return
            size = begin
        file.truncate(0)
