"""How long the memory that Polars has freed is kept for what comes next.

Its allocator, jemalloc, hands memory back to the system after half a second, and large pieces at once. A verb that goes
through a log block by block asks for the same pieces again and again, and the system must find and clear every page.
Kept for some seconds, they cost a little of its memory and save a good part of its time.
"""

from __future__ import annotations

import os

VARIABLE, SETTINGS = "_RJEM_MALLOC_CONF", "oversize_threshold:0,dirty_decay_ms:5000"


def keep_memory() -> None:
    """Sets it for this process and its children, unless the user has; to be called before Polars is imported."""
    os.environ.setdefault(VARIABLE, SETTINGS)
