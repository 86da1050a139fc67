"""Where the values of a row stand: 32-bit words, numbers first, then ids that share a word when they are short.

A row of 26 ids and 16 numbers is one run of some 120 bytes, so that a shuffled batch costs one gather. Ids are packed
by bits, not by bytes: an id of a vocabulary of 5,000 takes 13 bits of a word, and shifts and masks over whole columns
take it out again at the speed at which memory is read. No id is cut by the end of a word.
"""

from __future__ import annotations

from collections.abc import Sequence

from onehull.spec.inputs import ModelInput
from onehull.spec.section import Section

WORD_BITS = 32
LABEL_PREFIX = "y."
"""Features that hold labels start with this; the others are encoded inputs."""


class IdPlace(Section):
    """Where an id stands: ``(word >> shift) & (2**bits - 1)``."""

    word: int
    shift: int
    bits: int


class RowPlan(Section):
    """Where every value of a row stands, written into the manifest so that any program can read the blocks."""

    words: int
    """Words of a row; each is 32 bits, little-endian."""
    numbers: dict[str, int]
    """Word of the first float32 of each dense input and of each label; the others of an input follow."""
    ids: dict[str, tuple[IdPlace, ...]]
    """Places of the ids of each input, one for each id."""


def plan_row(inputs: Sequence[ModelInput], tasks: Sequence[str], *, packed: bool = True) -> RowPlan:
    """Lays out a row.

    Args:
        inputs: encoded inputs.
        tasks: tasks with a label.
        packed: whether ids share words; otherwise each takes a whole one.
    """
    numbers: dict[str, int] = {}
    words = 0
    for item in inputs:
        if item.kind == "dense":
            numbers[item.name] = words
            words += item.length
    for task in tasks:
        numbers[f"{LABEL_PREFIX}{task}"] = words
        words += 1
    needs = {i.name: _bits(i.rows) if packed else WORD_BITS for i in inputs if i.kind != "dense"}
    lengths = {item.name: item.length for item in inputs}
    # Longest first, each into the first word that has room: never more than a quarter above the fewest words.
    used: list[int] = []
    ids: dict[str, list[IdPlace]] = {name: [] for name in needs}
    for name, bits in sorted(needs.items(), key=lambda need: -need[1]):
        for _ in range(lengths[name]):
            word = next((at for at, taken in enumerate(used) if taken + bits <= WORD_BITS), len(used))
            if word == len(used):
                used.append(0)
            ids[name].append(IdPlace(word=words + word, shift=used[word], bits=bits))
            used[word] += bits
    return RowPlan(words=words + len(used), numbers=numbers, ids={name: tuple(places) for name, places in ids.items()})


def _bits(rows: int) -> int:
    """Bits of the largest id of a table."""
    return max(1, (rows - 1).bit_length())
