"""Who watches and what there is to watch: users and items with latent tastes behind their visible attributes.

Shapes: ``U`` users, ``I`` items, ``C`` categories, ``D`` latent dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onehull.world.catalogue import AGE_GROUPS, CATEGORIES, MOODS, compose_title, tags_of

LATENT = 8
_CREATORS_PER_ITEM = 0.15
_MISSING_SHARE = 0.02


@dataclass(frozen=True)
class Users:
    """People. The latent columns are never written."""

    taste_UD: np.ndarray
    generosity_U: np.ndarray
    """How readily a user likes."""
    thrift_U: np.ndarray
    """How reluctantly a user buys."""
    patience_U: np.ndarray
    """How long a user's attention lasts."""
    interests_U2: np.ndarray
    """The two categories that a user says to like best."""
    age_group_U: np.ndarray
    city_tier_U: np.ndarray
    activity_U: np.ndarray
    """Impressions a day, on average."""


@dataclass(frozen=True)
class Items:
    """Videos. ``vector_ID`` and ``quality_I`` are never written; ``embedding_ID`` is a noisy view."""

    vector_ID: np.ndarray
    quality_I: np.ndarray
    category_I: np.ndarray
    creator_I: np.ndarray
    duration_s_I: np.ndarray
    sells_I: np.ndarray
    """Whether the video shows something that can be bought."""
    upload_day_I: np.ndarray
    popularity_I: np.ndarray
    embedding_ID: np.ndarray
    titles: list[str]
    tags: list[list[str]]


def make_centres(random: np.random.Generator) -> np.ndarray:
    """Directions of the categories in taste space ``(C, D)``."""
    centres_CD = random.normal(size=(len(CATEGORIES), LATENT))
    return centres_CD / np.linalg.norm(centres_CD, axis=1, keepdims=True)


def make_users(count: int, centres_CD: np.ndarray, random: np.random.Generator) -> Users:
    """People whose taste is a mixture of two categories and something of their own."""
    categories = len(centres_CD)
    interests_U2 = np.argsort(random.random((count, categories)), axis=1)[:, :2]
    blend_U = random.uniform(0.5, 1.0, count)[:, None]
    taste_UD = blend_U * centres_CD[interests_U2[:, 0]] + (1 - blend_U) * centres_CD[interests_U2[:, 1]]
    taste_UD = 1.6 * taste_UD + 0.35 * random.normal(size=(count, LATENT))
    age_U = random.choice(len(AGE_GROUPS), count, p=[0.28, 0.32, 0.2, 0.12, 0.08])
    return Users(
        taste_UD=taste_UD,
        generosity_U=random.normal(0.0, 0.9, count),
        thrift_U=random.normal(0.0, 0.7, count) - 0.15 * age_U,
        patience_U=random.normal(0.0, 0.5, count) + 0.15 * age_U,
        interests_U2=interests_U2,
        age_group_U=age_U,
        city_tier_U=random.choice([1, 2, 3, 4], count, p=[0.2, 0.35, 0.3, 0.15]),
        activity_U=np.clip(random.lognormal(np.log(9.0), 0.6, count), 1.0, 60.0),
    )


def make_items(count: int, days: int, centres_CD: np.ndarray, random: np.random.Generator) -> Items:
    """Videos around the centre of their category; creators stay in one category and have a level of their own."""
    creators = max(1, int(count * _CREATORS_PER_ITEM))
    home_K = random.integers(0, len(centres_CD), creators)
    level_K = random.normal(0.0, 0.6, creators)
    creator_I = random.integers(0, creators, count)
    category_I = np.where(random.random(count) < 0.85, home_K[creator_I], random.integers(0, len(centres_CD), count))
    vector_ID = 1.3 * centres_CD[category_I] + 0.35 * random.normal(size=(count, LATENT))
    quality_I = level_K[creator_I] + random.normal(0.0, 0.6, count)
    moods = random.integers(0, len(MOODS), count)
    return Items(
        vector_ID=vector_ID,
        quality_I=quality_I,
        category_I=category_I,
        creator_I=creator_I,
        duration_s_I=np.round(np.clip(random.lognormal(np.log(28.0), 0.7, count), 5.0, 240.0), 1),
        sells_I=random.random(count) < 0.35,
        upload_day_I=random.uniform(-20.0, max(0.5, days - 2.0), count),
        popularity_I=np.exp(0.8 * quality_I + random.normal(0.0, 0.8, count)),
        embedding_ID=np.round(vector_ID + 0.3 * random.normal(size=vector_ID.shape), 3),
        titles=[compose_title(int(c), int(m), random) for c, m in zip(category_I, moods, strict=True)],
        tags=[tags_of(int(c), int(m), random) for c, m in zip(category_I, moods, strict=True)],
    )


def user_records(users: Users, random: np.random.Generator) -> list[dict[str, object]]:
    """What the app knows about each user; some attributes are missing."""
    known = random.random((len(users.age_group_U), 3)) >= _MISSING_SHARE
    return [
        {
            "user": f"u{index}",
            "age_group": AGE_GROUPS[users.age_group_U[index]] if known[index, 0] else None,
            "city_tier": int(users.city_tier_U[index]) if known[index, 1] else None,
            "interests": [CATEGORIES[c] for c in users.interests_U2[index]] if known[index, 2] else None,
            "activity": round(float(users.activity_U[index]), 2),
        }
        for index in range(len(users.age_group_U))
    ]


def item_records(items: Items, random: np.random.Generator) -> list[dict[str, object]]:
    """What the app knows about each video; some attributes are missing."""
    known = random.random((len(items.category_I), 2)) >= _MISSING_SHARE
    return [
        {
            "item": f"v{index}",
            "title": items.titles[index],
            "category": CATEGORIES[items.category_I[index]],
            "creator": f"c{items.creator_I[index]}",
            "tags": items.tags[index] if known[index, 0] else None,
            "duration_s": float(items.duration_s_I[index]) if known[index, 1] else None,
            "sells": bool(items.sells_I[index]),
            "embedding": [float(x) for x in items.embedding_ID[index]],
        }
        for index in range(len(items.category_I))
    ]
