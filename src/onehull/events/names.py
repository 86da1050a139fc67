"""Columns of decoded events."""

from __future__ import annotations

FILE, LINE, ID, MOMENT = "file", "line", "id", "moment"
"""Columns of decoded events: number of the file, number of the line, the event's id, microseconds since 1970."""
KIND, REFERENCE = "kind", "impression"
"""Columns of decoded feedback: kind of the event, id of its impression."""


def value_column(name: str) -> str:
    """Column of decoded feedback that holds a value field."""
    return f"v.{name}"


def context_column(name: str) -> str:
    """Column of decoded impressions that holds a context field as id text."""
    return f"c.{name}"
