"""Ctrl-C and SIGTERM wait until training can stop where it can go on."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn

_LOG = logging.getLogger(__name__)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which the first signal is noted and the second one does what it did before.

    Handlers belong to the main thread; in another one, and for signals that are ignored (as a shell does for what it
    starts in the background), nothing changes.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in _SIGNALS}
            self._before = {n: handler for n, handler in found.items() if handler not in (None, signal.SIG_IGN)}
            for number in self._before:
                signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def stop(self, text: str) -> NoReturn:
        """Ends the work that was interrupted, once it is saved.

        Args:
            text: how to continue.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after SIGTERM, with the exit status of a process that it ended, 143.
        """
        _LOG.warning(text)
        if self.asked == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt(text)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.asked is not None:
            self._give_back()
            signal.raise_signal(number)
            return
        self.asked = signal.Signals(number)
        _LOG.warning("%s: finishes the running step, then saves. Once more stops at once.", self.asked.name)

    def _give_back(self) -> None:
        """Puts the handlers of before in their place."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
