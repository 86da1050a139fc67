"""The schema of events: one JSON object a line.

An impression says what was shown to whom; feedback says what came of it::

    {"event": "impression", "id": "i1", "time": "2026-01-05T10:00:00Z", "user": "u7", "item": "v3",
     "context": {"hour": 10, "device": "phone"}}
    {"event": "click", "id": "e1", "impression": "i1", "time": "2026-01-05T10:00:04.2Z"}
    {"event": "watch", "id": "e2", "impression": "i1", "time": "2026-01-05T10:01:00Z", "value": 34.5}

``time`` is ISO 8601 (without an offset: UTC) or seconds since 1970. ``id`` makes delivery idempotent: an event
seen twice counts once. Feedback without an ``id`` counts once by (impression, event, time). Fields beyond these are
kept out of training and do no harm; features of the moment belong in ``context``.
"""

from __future__ import annotations

IMPRESSION = "impression"

IMPRESSION_FIELDS = ("event", "id", "time", "user", "item", "context")
FEEDBACK_FIELDS = ("event", "id", "impression", "time", "value")

WORLD_MARKER = "SIMULATED.json"
"""File in a data directory which says that its events are simulated, and with what parameters."""
