"""What people do: which videos they are shown, and the true probability of everything that can follow.

Shapes: ``N`` impressions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onehull.world.population import Items, Users

CLICK_RATE, LIKE_RATE, PURCHASE_RATE = 0.28, 0.035, 0.008
"""Shares of impressions that the intercepts are set for."""

DEVICES = ("phone", "tablet", "web")
_SESSION = 12
_HOUR_WEIGHTS = np.array([2, 1, 1, 1, 1, 1, 2, 4, 5, 4, 4, 5, 7, 6, 5, 5, 5, 6, 8, 10, 11, 10, 7, 4], dtype=float)


@dataclass(frozen=True)
class Impressions:
    """What was shown, in order of time."""

    user_N: np.ndarray
    item_N: np.ndarray
    second_N: np.ndarray
    """Seconds since the start of the log."""
    hour_N: np.ndarray
    position_N: np.ndarray
    device_N: np.ndarray


@dataclass(frozen=True)
class Truth:
    """True probabilities of each impression; like and purchase presuppose a click and are of the impression."""

    click_N: np.ndarray
    watch_s_N: np.ndarray
    """Expected seconds, given a click."""
    like_N: np.ndarray
    purchase_N: np.ndarray


@dataclass(frozen=True)
class Outcomes:
    """What happened, drawn from the truth."""

    click_N: np.ndarray
    watch_s_N: np.ndarray
    like_N: np.ndarray
    purchase_N: np.ndarray


def show(users: Users, items: Items, days: int, random: np.random.Generator) -> Impressions:
    """An older recommender at work: half popular videos, half from the categories that a user says to like."""
    per_day_UD = random.poisson(users.activity_U[:, None], (len(users.activity_U), days))
    user_N = np.repeat(np.arange(len(users.activity_U)), per_day_UD.sum(axis=1))
    day_N = np.concatenate([np.repeat(np.arange(days), row) for row in per_day_UD])
    hour_N = random.choice(24, len(user_N), p=_HOUR_WEIGHTS / _HOUR_WEIGHTS.sum())
    second_N = day_N * 86400 + hour_N * 3600 + random.uniform(0, 3600, len(user_N))
    order = np.argsort(second_N, kind="stable")
    user_N, second_N, hour_N = user_N[order], second_N[order], hour_N[order]
    return Impressions(
        user_N=user_N,
        item_N=_choose_items(users, items, user_N, second_N, random),
        second_N=second_N,
        hour_N=hour_N,
        position_N=np.minimum(random.geometric(0.2, len(user_N)) - 1, _SESSION - 1),
        device_N=random.choice(len(DEVICES), len(user_N), p=[0.78, 0.09, 0.13]),
    )


def _choose_items(
    users: Users, items: Items, user_N: np.ndarray, second_N: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Popular ones for half of the impressions, ones of a stated interest for the other; none before its upload."""
    weights_I = items.popularity_I / items.popularity_I.sum()
    popular_N = random.choice(len(weights_I), len(user_N), p=weights_I)
    wanted_N = users.interests_U2[user_N, random.integers(0, 2, len(user_N))]
    chosen_N = popular_N.copy()
    for category in np.unique(wanted_N):
        pool = np.flatnonzero(items.category_I == category)
        rows = np.flatnonzero((wanted_N == category) & (random.random(len(user_N)) < 0.5))
        if len(pool) and len(rows):
            chosen_N[rows] = random.choice(pool, len(rows), p=weights_I[pool] / weights_I[pool].sum())
    old = np.flatnonzero(items.upload_day_I <= 0)
    early = items.upload_day_I[chosen_N] * 86400 > second_N
    chosen_N[early] = random.choice(old, early.sum()) if len(old) else chosen_N[early]
    return chosen_N


def true_probabilities(users: Users, items: Items, shown: Impressions, purchase_rate: float = PURCHASE_RATE) -> Truth:
    """The model of behaviour that no pipeline ever sees.

    Args:
        users: who watches.
        items: what is watched.
        shown: the impressions.
        purchase_rate: mean probability of a purchase, below that of a click on a video that sells.

    Raises:
        ValueError: the rate cannot be reached.
    """
    user, item = shown.user_N, shown.item_N
    match_N = np.einsum("nd,nd->n", users.taste_UD[user], items.vector_ID[item])
    long_N = np.log(items.duration_s_I[item] / 28.0)
    evening_N = np.where(np.isin(shown.hour_N, (19, 20, 21, 22)), 0.25, 0.0)
    quality_N = items.quality_I[item]
    click_N = _calibrated(
        0.9 * match_N + 0.7 * quality_N - 0.09 * shown.position_N + evening_N - 0.3 * long_N,
        np.ones(len(user)),
        CLICK_RATE,
    )
    attention_N = _sigmoid(0.2 + 0.5 * match_N + 0.3 * quality_N - 0.6 * long_N + users.patience_U[user])
    like_N = _calibrated(0.6 * match_N + 1.0 * quality_N + users.generosity_U[user], click_N, LIKE_RATE)
    sells_N = np.where(items.sells_I[item], 1.0, 0.0)
    buyers_N = click_N * sells_N
    if purchase_rate != PURCHASE_RATE and not 0 < purchase_rate < buyers_N.mean():
        rule = f"must be above 0 and below the rate of clicks on videos that sell, {buyers_N.mean():.3f} in this world"
        raise ValueError(f"purchase_rate {rule}. Received {purchase_rate!r}.")
    purchase_N = _calibrated(0.5 * match_N + 0.5 * quality_N - users.thrift_U[user], buyers_N, purchase_rate)
    return Truth(click_N, attention_N * items.duration_s_I[item], like_N, purchase_N)


def act(truth: Truth, random: np.random.Generator) -> Outcomes:
    """Draws what happens: a click first, and everything else only after it."""
    click_N = random.random(len(truth.click_N)) < truth.click_N
    return Outcomes(
        click_N=click_N,
        watch_s_N=truth.watch_s_N * random.gamma(3.0, 1.0 / 3.0, len(click_N)),
        like_N=click_N & (random.random(len(click_N)) < truth.like_N / truth.click_N),
        purchase_N=click_N & (random.random(len(click_N)) < truth.purchase_N / truth.click_N),
    )


def _calibrated(logit_N: np.ndarray, base_N: np.ndarray, rate: float) -> np.ndarray:
    """``base · sigmoid(logit + b)`` with the intercept ``b`` that makes its mean the rate (bisection)."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        too_high = np.mean(base_N * _sigmoid(logit_N + middle)) > rate
        low, high = (low, middle) if too_high else (middle, high)
    return base_N * _sigmoid(logit_N + (low + high) / 2)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))
