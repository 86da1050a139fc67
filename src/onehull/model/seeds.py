"""Seeds of layers: from the model's seed and the layer's name, so that the order of tasks or layers does not matter."""

from __future__ import annotations

import zlib


def layer_seed(seed: int | None, name: str) -> int | None:
    """A seed for one layer; None stays None, which draws one.

    Args:
        seed: seed of the model.
        name: name of the layer, or of a part of it.
    """
    return None if seed is None else zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF
