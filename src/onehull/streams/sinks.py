"""Events → brokers: either the caller waits until the broker has them, or hears of those that it never got."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, final

from onehull.errors import BrokerError

_MARGIN_SECONDS = 2.0
"""A client says a little later than its own limit that it gives up."""
CHECK_SECONDS = 5
"""How long a broker may take to say what topics it has."""
HELD_BYTES, HELD_MESSAGES = 64 << 20, 100_000
"""What a client holds at most of what the broker has not taken yet."""


class Message(NamedTuple):
    """What a broker is given.

    Attributes:
        value: content.
        key: messages of one key stay in order.
        attributes: text beside the content.
    """

    value: bytes
    key: str
    attributes: Mapping[str, str] = {}


Told = Callable[[str | None], None]
"""Hears None when the broker has a message durably, or why it has not got it."""


class Sink(ABC):
    """Hands messages to a broker.

    Args:
        wait_seconds: how long the broker may take for a message.
        on_failure: hears why a posted message was lost; called from another thread.

    Attributes:
        fault: why the latest message was not taken; None after one that was.
        heard: when that was, by the monotonic clock.
    """

    def __init__(self, wait_seconds: float, on_failure: Callable[[str], None] | None = None) -> None:
        self._wait_seconds = wait_seconds
        self._on_failure = on_failure or (lambda _: None)
        self._changed = threading.Condition()
        self._outstanding = 0
        self._lost: list[str] = []
        self.fault: str | None = None
        self.heard = 0.0

    @final
    def send(self, topic: str, messages: Sequence[Message]) -> None:
        """Returns when the broker has all of them durably.

        Raises:
            BrokerError: it has not confirmed all of them in time. Some may be there all the same, or come to be:
                what is sent again needs an id by which a reader knows it.
        """
        waiting = _Waiting(len(messages))
        for message in messages:
            self._hand_over(topic, message, waiting.told)
        fault = waiting.fault(self._wait_seconds + _MARGIN_SECONDS)
        self.hear(fault)
        if fault is not None:
            raise BrokerError(fault)

    @final
    def post(self, topic: str, message: Message) -> None:
        """Returns at once; what becomes of it is told to `on_failure` and `settle`.

        Raises:
            BrokerError: too many wait already.
        """
        with self._changed:
            self._outstanding += 1
        try:
            self._hand_over(topic, message, self._told)
        except BrokerError:
            with self._changed:
                self._outstanding -= 1
            raise

    @final
    def settle(self, seconds: float | None = None) -> None:
        """Returns when the broker has durably what was posted.

        Args:
            seconds: how long to wait; default: as long as a message may take.

        Raises:
            BrokerError: it has not got all of it.
        """
        limit = self._wait_seconds + _MARGIN_SECONDS if seconds is None else seconds
        with self._changed:
            done = self._changed.wait_for(lambda: not self._outstanding, limit)
            lost, self._lost = self._lost, []
            if lost:
                raise BrokerError(f"{len(lost):,} messages were not taken: {lost[0]}")
            if not done:
                raise BrokerError(f"{self._outstanding:,} messages were not taken within {limit:g} seconds")

    @abstractmethod
    def check(self, topics: Sequence[str]) -> str | None:
        """Why nothing can be sent now, in words; None where it can.

        Raises:
            BrokerError: the broker answers, and does not have a topic.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends; what has not been taken by then is lost, see `settle`."""

    @abstractmethod
    def _hand_over(self, topic: str, message: Message, told: Told) -> None:
        """Gives a message to the client, which calls `told` from another thread.

        Raises:
            BrokerError: it holds too many already.
        """

    def hear(self, fault: str | None) -> None:
        """Remembers how it is with the broker."""
        self.fault, self.heard = fault, time.monotonic()

    def _told(self, fault: str | None) -> None:
        self.hear(fault)
        with self._changed:
            self._outstanding -= 1
            if fault is not None:
                self._lost = [*self._lost[-999:], fault]
            self._changed.notify_all()
        if fault is not None:
            self._on_failure(fault)


class _Waiting:
    """Somebody waits for some messages."""

    def __init__(self, messages: int) -> None:
        self._changed = threading.Condition()
        self._left = messages
        self._fault: str | None = None

    def told(self, fault: str | None) -> None:
        with self._changed:
            self._left -= 1
            self._fault = self._fault or fault
            self._changed.notify_all()

    def fault(self, seconds: float) -> str | None:
        """Why the broker does not have all of them; None where it has."""
        with self._changed:
            done = self._changed.wait_for(lambda: not self._left or self._fault is not None, seconds)
            return self._fault if done else f"the broker did not answer within {seconds:g} seconds"
