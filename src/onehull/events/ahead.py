"""Work on what is read next while what was read before is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_THREADS = 3
"""Arrow and Polars let go of the interpreter while they work; more threads hold more blocks in memory."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    items: Iterable[Item], work: Callable[[Item], Result], enough: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Item, Result]]:
    """Items and what became of them, in order; a few of them are worked on ahead.

    Args:
        items: taken one by one.
        work: may run in another thread, at the same time as others.
        enough: asked after each item: no more are taken, and those that were taken are finished.
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if enough():
                break
            if len(waiting) > _THREADS:
                done, result = waiting.popleft()
                yield done, result.result()
        for done, result in waiting:
            yield done, result.result()
