"""Two tasks in conflict: plain summing leaves the weak one behind; four methods do not."""

from __future__ import annotations

import pytest
from benchmarks.quadratic import LEVEL, descend


def test_plain_summing_leaves_the_weak_task_behind():
    strong, weak = descend("static")[-1]
    assert strong <= LEVEL
    assert weak > 3


@pytest.mark.parametrize("kind", ["pcgrad", "cagrad", "nash_mtl", "upgrad"])
def test_these_methods_bring_both_tasks_forward(kind):
    way = descend(kind)
    assert way[-1][0] <= LEVEL
    # The weak task is never worse than at the start, up to the curvature within one step, and is better in the end.
    assert way[:, 1].max() < 1.001
    assert way[-1][1] < 0.9
