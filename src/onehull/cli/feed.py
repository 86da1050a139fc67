"""A ranked feed in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from onehull.serve import Ranker

_EVENING = {"hour": 20, "position": 0, "device": "phone"}


def first_user(ranker: Ranker) -> str:
    """A user that the bundle knows."""
    return ranker.users.ids[0] if ranker.users is not None else "anyone"


def feed_table(ranker: Ranker, user: str, k: int = 10) -> Table:
    """The first items of a user's feed, with the score of every task and the fused one."""
    from onehull.serve import RankRequest

    context = {name: value for name, value in _EVENING.items() if name in ranker.context.fields}
    answer = ranker.rank(RankRequest(user=user, context=context, k=k, log=False))
    table = Table(title=f"Feed of {user}, ranked by {answer.formula}", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("item")
    for task in ranker.tasks:
        table.add_column(task, justify="right")
    table.add_column("fused", justify="right")
    for item in answer.items:
        scores = [_score(item.scores[task], kind) for task, kind in ranker.tasks.items()]
        fused = "–" if item.score is None else f"{item.score:.3f}"
        table.add_row(str(item.rank), str(item.show.get("title") or item.id), *scores, fused)
    return table


def _score(value: object, kind: str) -> str:
    if isinstance(value, list):
        return str(max(range(len(value)), key=value.__getitem__))
    if not isinstance(value, float):
        return "–"
    return f"{value:.1%}" if kind == "binary" else f"{value:.1f}"
