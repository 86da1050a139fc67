"""What `benchmarks.late_labels` measures with."""

import numpy as np
import pytest
from benchmarks.late_labels import WAYS, stationary_constant, weights_of


@pytest.mark.parametrize(("name", "share"), [("wait", None), ("fnw", 1.0), ("es_dfm", 0.8), ("defer", 0.8)])
def test_the_constant_leads_back_to_the_truth_from_predictions_that_are_moved(name: str, share: float | None):
    """Rows as the way's stream holds them: with their shares, the truth is where the gradient is 0."""
    p = np.linspace(0.02, 0.6, 200)
    d = p * (share or 0.0)
    positive, negative = {
        "wait": (p, 1 - p), "fnw": (p, np.ones_like(p)), "es_dfm": (p, 1 - p + d), "defer": (p - d + p, 2 - 2 * p + d),
    }[name]  # fmt: skip
    rows = np.round(np.stack([positive, negative]) * 5000).astype(int)
    labels = np.repeat([1.0, 0.0], rows.sum(axis=1))
    moved = 1 / (1 + (1 - p) / p * np.exp(0.7))
    seen = np.concatenate([np.repeat(moved, count) for count in rows])
    assert stationary_constant(seen, labels, weights_of(WAYS[name], share)) == pytest.approx(0.7, abs=0.01)
