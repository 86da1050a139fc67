"""How the shards are written."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onehull.spec.section import Section

Layout = Literal["blocks", "rows"]
Compression = Literal["none", "gzip", "zlib"]


class Records(Section):
    """How ``prepare`` writes the shards. The rows and their values are the same whatever stands here."""

    layout: Layout = "blocks"
    """``blocks``: one ``tf.train.Example`` holds many rows as raw bytes, which is read many times as fast. ``rows``:
    one Example a row with a feature for each input and label, as other programs expect it."""
    compression: Compression = "none"
    """Of each block in the layout ``blocks``; of the whole file in the layout ``rows``, whose order is then shuffled by
    file and no longer by block. It takes less disk and more of the processor."""
    rows_per_block: Annotated[int, Field(ge=1, le=65_536)] = 1024
    """Rows that stay together when the order of a part that is larger than memory is shuffled by block."""
    rows_per_shard: Annotated[int, Field(ge=1)] = 262_144
    """Rows of a file; the last one of a part may have fewer."""
