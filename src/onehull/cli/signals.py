"""Verbs that run until they are told to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable


def until_signal(show: Callable[[], None] = lambda: None) -> Callable[[], bool]:
    """Ctrl-C and SIGTERM end a verb in its own time: what it has read becomes durable first.

    Args:
        show: called each time the verb asks.

    Returns:
        A function that says whether to end.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())

    def stop() -> bool:
        show()
        return ended.is_set()

    return stop
