"""Δm: one number for the gain of a multi-task model over single-task models."""

from __future__ import annotations

from collections.abc import Sequence


def relative_gain(values: Sequence[float], baselines: Sequence[float], lower_is_better: Sequence[bool]) -> float | None:
    """Mean relative gain over tasks, in per cent (Maninis et al., CVPR 2019, eq. 3).

    100/K Σ_k (-1)^{s_k} (M_k - B_k) / B_k, where s_k is 1 if lower is better. None without tasks, or where a
    baseline is 0.

    Args:
        values: metric of each task.
        baselines: the same metric of the single-task models.
        lower_is_better: True for losses and errors.
    """
    if not values or not all(baselines):
        return None
    gains = [
        (baseline - value if lower else value - baseline) / abs(baseline)
        for value, baseline, lower in zip(values, baselines, lower_is_better, strict=True)
    ]
    return 100 * sum(gains) / len(gains)
