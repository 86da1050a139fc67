"""Words: categories, age groups, tags and titles of the simulated videos."""

from __future__ import annotations

import numpy as np

AGE_GROUPS = ("18-24", "25-34", "35-44", "45-54", "55+")

_SUBJECTS: dict[str, tuple[str, ...]] = {
    "food": ("Street ramen", "Sourdough, slowly", "One-pan noodles", "Grandmother's dumplings", "Midnight pancakes"),
    "travel": ("Night train north", "A morning in Lisbon", "Desert road", "Island by bicycle", "The last village"),
    "music": (
        "Cello in a stairwell",
        "One-take drum cover",
        "Lo-fi from the balcony",
        "Choir rehearsal",
        "Synth sketch",
    ),
    "sports": ("Downhill run", "Buzzer beater", "First marathon", "Climbing the quiet wall", "Penalty practice"),
    "animals": ("A cat and a printer", "Rescue puppy", "Otter breakfast", "Parrot negotiates", "Foal's first steps"),
    "science": (
        "Ice that sings",
        "Why bridges hum",
        "A star's last day",
        "Slime finds the way",
        "Magnets in slow motion",
    ),
    "crafts": ("Walnut stool", "Mending a jacket", "Paper crane for giants", "Glazing a bowl", "Knife from a file"),
    "comedy": (
        "Office plant speaks",
        "Dad explains the cloud",
        "Two clerks, one queue",
        "Parking lesson",
        "Elevator talk",
    ),
    "gaming": (
        "Speedrun, no map",
        "Boss at level one",
        "Building a city by rules",
        "Chess in two minutes",
        "Co-op chaos",
    ),
    "fashion": ("Thrift haul", "Linen, three ways", "Sneaker repaint", "Capsule for autumn", "Sewing a shirt"),
    "garden": ("Tomatoes on a sill", "Moss wall", "Pruning the old pear", "Bees move in", "Pond in a barrel"),
    "home": ("Tiny kitchen, big shelf", "Lamp from a jar", "Painting the hallway", "Desk for two", "Quiet corner"),
}
CATEGORIES = tuple(_SUBJECTS)

MOODS = (
    "in the rain",
    "at dawn",
    "with friends",
    "explained",
    "in 40 seconds",
    "before work",
    "by hand",
    "on a budget",
)

_MOOD_TAGS = ("rain", "morning", "friends", "howto", "short", "routine", "handmade", "budget")


def compose_title(category: int, mood: int, random: np.random.Generator) -> str:
    """A readable title, for example ``Street ramen in the rain``."""
    subjects = _SUBJECTS[CATEGORIES[category]]
    return f"{subjects[random.integers(len(subjects))]} {MOODS[mood]}"


def tags_of(category: int, mood: int, random: np.random.Generator) -> list[str]:
    """One to four tags: the category's own, the mood's, and sometimes another category's."""
    tags = [f"{CATEGORIES[category]}{random.integers(1, 6)}", _MOOD_TAGS[mood]]
    tags += [
        f"{CATEGORIES[random.integers(len(CATEGORIES))]}{random.integers(1, 6)}" for _ in range(random.integers(3))
    ]
    return sorted(set(tags))
