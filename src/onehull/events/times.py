"""Moments of events: ISO 8601 (without an offset: UTC) or seconds since 1970, and the range that is believed."""

from __future__ import annotations

from datetime import UTC, datetime

LAST_SECOND = 253_402_300_800.0
"""The year 10000: a larger number is usually in milliseconds."""


def seconds_since_1970(time: datetime | float) -> float:
    """A moment as seconds."""
    if isinstance(time, datetime):
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
    return float(time)
